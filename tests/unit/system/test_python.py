"""Whatever Python of ours is started, the directory where the user stands is none of its code."""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from wh.net.private import namespace_helper
from whtools import wireguard

ROOT = Path(__file__).parents[3]
COMMAND_LINES = ROOT / "wh" / "system" / "python.py"
SHELL_OF_THE_USER = ROOT / "tools" / "whtools" / "znc" / "local_ends.py"  # 0nc -e COMMAND
PYTHON_WORD = re.compile(r"-m|(?:\S*/)?python[0-9.]*(?:\s.*)?", re.DOTALL)

SHADOWED = (
    "wh",
    "whcore",
    "whtools",
    "msgspec",
    "uvloop",
    "click",
    "sitecustomize",
    "usercustomize",
    "signal",
)


def starts(path: Path) -> list[str]:
    """Where a file names an interpreter, or lets a shell find a program."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(attr="executable" | "_base_executable"):
                found.append(f"{path}:{node.lineno}: the interpreter")
            case ast.alias(name="executable"):
                found.append(f"{path}:{node.lineno}: the interpreter")
            case ast.Constant(value=str(text)) if PYTHON_WORD.fullmatch(text):
                found.append(f"{path}:{node.lineno}: {text}")
            case ast.Attribute(value=ast.Name(id="os"), attr="system" | "popen"):
                found.append(f"{path}:{node.lineno}: os.{node.attr}")
            case ast.keyword(arg="shell") if path != SHELL_OF_THE_USER:
                found.append(f"{path}:{node.value.lineno}: a shell")
    return found


def test_one_module_makes_all_command_lines_of_python():
    files = [path for top in ("wh", "tools") for path in sorted((ROOT / top).rglob("*.py"))]
    assert [found for path in files if path != COMMAND_LINES for found in starts(path)] == []
    assert starts(COMMAND_LINES)  # the search finds what it looks for


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory with modules that have the names of ours and of what we use."""
    for name in SHADOWED:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name}\\n')\n")
    return tmp_path


@pytest.mark.parametrize("module", ["wh.daemon.process", "wh.net.mapping.igd_worker", "whtools.wireguard"])
def test_a_module_is_started_without_the_code_of_the_current_directory(hostile: Path, module: str):
    from wh.system.python import python_module

    subprocess.run(python_module(module, "--help"), cwd=hostile, input=b"", capture_output=True, timeout=30)
    assert not (hostile / "ran").exists()


def test_a_file_is_started_without_any_code_of_others(hostile: Path):
    from wh.system.python import python_file

    environment = {**os.environ, "PYTHONPATH": str(hostile)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        helper = subprocess.Popen(
            python_file(namespace_helper.__file__), cwd=hostile, env=environment, stdin=theirs
        )
        theirs.close()
        ours.settimeout(30)
        assert ours.recv(100)
        ours.close()
        helper.wait(30)
    assert not (hostile / "ran").exists()


@pytest.fixture
def interface(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What start_in_background() hands over, as far as a process that ends at once needs it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "wg0.sock"))
    listener.listen()
    tun, other = os.pipe()
    os.close(other)
    monkeypatch.setattr(wireguard, "open_interface", lambda name: (tun, listener))
    return tmp_path / "wg0.sock"


def test_a_background_process_that_ends_at_once_is_an_error(
    interface: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("LOG_LEVEL", "silent")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert wireguard.main(["wg0"]) == 1
    assert "WH224" in capfd.readouterr().err
    assert not interface.exists()
