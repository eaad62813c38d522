"""How the core was compiled and linked, and that what is installed beside it is pinned by hash."""

import platform
import re
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CORE = Path(find_spec("whcore").submodule_search_locations[0])
MODULES = sorted(CORE.glob("*.so"))
SANITIZED = "asan" in CORE.parts

REQUIREMENTS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WANTED = {
    "build": PROJECT["build-system"]["requires"],
    "run": PROJECT["project"]["dependencies"],
    **PROJECT["project"]["optional-dependencies"],
}


def readelf(*arguments: str) -> str:
    return subprocess.run(["readelf", "-W", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name.split(".")[0])
def test_every_module_is_linked_with_full_relro_and_no_executable_stack(module):
    segments = readelf("-l", str(module))
    assert "GNU_RELRO" in segments
    assert re.search(r"GNU_STACK .* RW +0x", segments)
    assert re.search(r"\(FLAGS\).*BIND_NOW", readelf("-d", str(module)))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name.split(".")[0])
def test_every_module_is_compiled_with_protected_stacks_and_branches(module):
    switches = re.search(r"DW_AT_producer.*: (.*)", readelf("--debug-dump=info", str(module)))[1].split()
    wanted = {"-fstack-protector-strong", "-fstack-clash-protection"}
    if platform.machine() == "x86_64":
        wanted |= {"-fcf-protection"}
    assert wanted <= {switch.removesuffix("=full") for switch in switches}


@pytest.mark.skipif(SANITIZED, reason="the sanitizers check the same, and more")
def test_copies_of_a_length_that_the_compiler_does_not_know_are_checked():
    assert any("__memcpy_chk" in readelf("--dyn-syms", str(module)) for module in MODULES)


def entries(name: str) -> list[str]:
    """One a requirement, its hashes included."""
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("name", WANTED)
def test_every_requirement_is_one_release_with_its_hashes_and_no_index(name):
    for entry in entries(name):
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ;[^;@]*)?( +--hash=sha256:[0-9a-f]{64})+", entry), entry


@pytest.mark.parametrize("name", WANTED)
def test_what_pyproject_asks_for_is_pinned_within_its_bounds(name):
    requirements = pytest.importorskip("packaging.requirements")
    pins = dict(entry.split(" ")[0].split("==") for entry in entries(name))
    for text in WANTED[name]:
        wanted = requirements.Requirement(text)
        assert wanted.specifier.contains(pins[wanted.name.lower()]), text


def test_the_makefile_installs_nothing_that_is_not_pinned():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"^\t.*(?:pip\b|\$\(INSTALL\w*\)).*$", makefile, re.MULTILINE)
    commands = [command for command in commands if "-m venv" not in command]
    assert commands
    for command in commands:
        assert "INSTALL_LOCKED" in command or "$(INSTALL) --no-deps" in command, command
