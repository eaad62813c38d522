"""A root for real: what a program sees in it, and that nothing of it stays, however its making ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from root import CACHE, Root, StepFailed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="making roots needs root"),
    pytest.mark.skipif(shutil.which("debootstrap") is None, reason="needs debootstrap"),
]
SUITE = "trixie"
PROGRAM = Path(__file__).with_name("distributions.py")
ROOTS = "root-*"


def test_a_root_has_namespaces_of_its_own_and_goes() -> None:
    lines: list[str] = []
    with Root(SUITE, tell=lines.append) as root:
        directory = root.directory
        root.run(
            "test $$ = 1 || test $(ls -d /proc/[0-9]* | wc -l) -lt 6; test -e Makefile; ls /sys/class/net"
        )
        assert lines == ["lo"]
        assert root.run("ls -A /run/netns /mnt; unshare --net true; test ! -e /dev/vda")[1] == [
            "/mnt:",
            "",
            "/run/netns:",
        ]
        with pytest.raises(StepFailed, match="exit code 3"):
            root.run("echo why; exit 3")
        assert lines[-1] == "why"
        root.run("sleep 1000 & sleep 0.1", network=True)  # and it ends with the command
    assert not directory.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_root_behind(number: signal.Signals) -> None:
    before = set(CACHE.glob(ROOTS))
    words = [sys.executable, str(PROGRAM), SUITE]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith(f"{SUITE}: ")  # of apt-get, in the root
        assert set(CACHE.glob(ROOTS)) - before
        running.send_signal(number)
        running.stdout.read()
    assert running.returncode != 0
    assert set(CACHE.glob(ROOTS)) == before
