"""0nc between a container without any privilege and the host, both ways."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

import pytest

from container_engine import MINIMAL, NOTHING, PATIENCE_S, Engine, wait_until
from container_networks import USER

ZNC = Path(__file__).parents[2] / ".venv/bin/0nc"
LENGTH = 300_000
COMMAND = [str(ZNC), "--quiet"]


def invitation(said: str) -> str:
    return next((word for word in said.split() if word.startswith("wh2")), "")


@pytest.fixture(scope="module")
def options(engine: Engine) -> list[str]:
    return [*NOTHING, *USER, "--read-only", "--network", engine.network()]


def test_the_host_reads_from_a_container(engine: Engine, options: list[str]) -> None:
    text = secrets.token_hex(LENGTH // 2)
    file = engine.file("text", text)
    box = engine.start(
        MINIMAL, [*options, "--volume", f"{file}:/text:ro"], "sh", "-c", "0nc --quiet --send-only </text"
    )
    wait_until(lambda: invitation(box.logs()), "an invitation")
    read = subprocess.run(
        [*COMMAND, invitation(box.logs())],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert read.returncode == 0, read.stderr + box.logs()
    assert read.stdout == text
    assert box.exit_code() == 0


def test_a_container_reads_from_the_host(engine: Engine, options: list[str]) -> None:
    text = secrets.token_hex(LENGTH // 2)
    said = engine.directory / "said"
    with said.open("w") as stderr:
        sender = subprocess.Popen(
            [*COMMAND, "--send-only"], stdin=subprocess.PIPE, stdout=stderr, stderr=stderr, text=True
        )
    try:
        wait_until(lambda: invitation(said.read_text()), "an invitation")
        box = engine.start(
            MINIMAL, options, "sh", "-c", f"0nc --quiet {invitation(said.read_text())} | wc -c"
        )
        assert sender.stdin is not None
        sender.stdin.write(text)
        sender.stdin.close()
        assert sender.wait(PATIENCE_S) == 0, said.read_text()
        assert box.exit_code() == 0
        assert box.logs().split()[-1] == str(LENGTH)
    finally:
        sender.kill()
        sender.wait()
