"""A signal that was ignored at the start stays ignored, as `nohup` and a shell's `&` want it."""

from __future__ import annotations

import signal
import socket
import subprocess

import programs
import pytest

from whtools.znc.outcome import EXIT_INTERRUPTED

SHORT_S = 0.3


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("ignored", [(signal.SIGHUP,), (signal.SIGTERM, signal.SIGINT)])
def test_0nc_outlives_what_was_ignored_and_no_other_signal(ignored: tuple[signal.Signals, ...]):
    words = ("0nc", "-v", "-l", "127.0.0.1", str(free_port()))
    with programs.start(*words, ignored=ignored) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"0nc: listening")
        for number in ignored:
            process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(SHORT_S)
        process.send_signal(signal.SIGTERM if signal.SIGHUP in ignored else signal.SIGHUP)
        assert process.wait(programs.TIMEOUT_S) == EXIT_INTERRUPTED
