"""What is in the images, and what is not."""

from __future__ import annotations

import json
import subprocess

import pytest

from container_engine import FULL, MINIMAL, SANDBOX, Engine

SIZE_MAX_MB = 120
FORBIDDEN_PROGRAMS = "cc gcc g++ clang ld as make cython cython3 pip pip3 git"
LEFTOVERS = ("*.pyx", "*.pxd", "*.[ch]", "*.o", "*.a", "*.whl", "*.deb", "*.sk", "*.pem", "key", ".*_history")
NAMED = " -o ".join(f"-name '{name}'" for name in LEFTOVERS)
FIND_LEFTOVERS = f"""
find / -xdev -path /usr/share/doc -prune -o -type f '(' {NAMED} ')' -print
find / -xdev -maxdepth 1 -name src
find /root /home /tmp /var/tmp /var/lib/wirehub /etc/wirehub /var/lib/apt/lists -mindepth 1 -type f \\
    ! -name '.bashrc' ! -name '.profile' ! -name shell-start
"""


def size_mb(image: str) -> float:
    told = subprocess.run(["podman", "image", "inspect", image], capture_output=True, text=True, check=True)
    return float(json.loads(told.stdout)[0]["Size"]) / 1e6


def test_the_minimal_image_is_small(engine: Engine) -> None:
    """Over its base, which is its bottom layer."""
    history = subprocess.run(
        ["podman", "history", "--format", "json", MINIMAL],
        capture_output=True,
        text=True,
        check=True,
    )
    layers = [layer["size"] for layer in json.loads(history.stdout)]
    print(f"{size_mb(MINIMAL):.0f} MB in all; layers from the top: {layers}")
    assert sum(layers[:-1]) / 1e6 < SIZE_MAX_MB


@pytest.mark.parametrize("image", [MINIMAL, SANDBOX])
def test_no_image_has_a_compiler_sources_or_secrets(engine: Engine, image: str) -> None:
    programs = f"for name in {FORBIDDEN_PROGRAMS}; do command -v $name; done"
    assert engine.run(image, [], "sh", "-c", programs, check=False).stdout == ""
    assert engine.run(image, [], "sh", "-c", FIND_LEFTOVERS).stdout == ""
    with_pip = (
        "import importlib.util as u; print([n for n in ('pip', 'setuptools', 'Cython') if u.find_spec(n)])"
    )
    for python in ("/usr/bin/python3", "/opt/wirehub/bin/python"):
        assert engine.run(image, [], python, "-c", with_pip).stdout == "[]\n"


def test_each_image_starts_as_the_readme_shows(engine: Engine) -> None:
    shell = engine.run(MINIMAL, FULL, "/bin/sh", text="wh version; 0nc --version; id -u\n").stdout
    assert shell.startswith("wirehub 2") and shell.splitlines()[-1] == "0"
    greeting = engine.run(SANDBOX, [*FULL, "--tty"], "sh", text="exit\n").stdout
    assert greeting.count("wh-sandbox-spawn 3") == 1


def test_the_sandbox_has_its_tools_and_completes(engine: Engine) -> None:
    tools = "ping ip ss tcpdump iperf3 curl ps less nano wh-sandbox-spawn wh-sandbox-test"
    script = f"for name in {tools}; do command -v $name >/dev/null || echo $name; done"
    assert engine.run(SANDBOX, [], "sh", "-c", script).stdout == ""
    complete = (
        "_completion_loader wh; COMP_WORDS=(wh netch); COMP_CWORD=1; _wh; echo ${COMPREPLY[*]};"
        "_completion_loader 0nc; complete -p 0nc"
    )
    told = engine.run(SANDBOX, [], "bash", "-ic", complete).stdout
    assert "netcheck" in told and "--bootstrap" in told
