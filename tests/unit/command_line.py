"""Command lines of `wh`, run in the process of the test."""

from __future__ import annotations

import os
import sys

import pytest
from fake_daemon import OWN_KEY, PEER_KEY

from whtools import cli

NETWORK = f"""\
name tutorial
workbit 2
subnet 10.0.42.0/24
trust node_a {OWN_KEY}
trust node_b {PEER_KEY}
"""


class Wh:
    """Runs command lines in this process and keeps what they printed."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capfd = capfd
        self._monkeypatch = monkeypatch
        self.out = self.err = ""

    def __call__(self, *arguments: str, stdin: str = "") -> int:
        read_end, write_end = os.pipe()
        os.write(write_end, stdin.encode())
        os.close(write_end)
        kept = os.dup(0)
        os.dup2(read_end, 0)
        os.close(read_end)
        try:
            with open(0, closefd=False) as stream:  # noqa: PTH123 - a descriptor has no path
                self._monkeypatch.setattr(sys, "stdin", stream)
                code = cli.run(list(arguments))
        finally:
            os.dup2(kept, 0)
            os.close(kept)
        self.out, self.err = self._capfd.readouterr()
        assert "Traceback" not in self.out + self.err
        return code
