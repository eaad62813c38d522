"""Our programs as whoever starts them may leave them: descriptors closed or full, signals ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

SCRIPTS = Path(sys.executable).parent
TIMEOUT_S = 60.0


def command_of(program: str) -> list[str]:
    return [str(SCRIPTS / program)]


def run(
    *words: str,
    closed: Iterable[int] = (),
    full: Iterable[int] = (),
    ignored: Iterable[signal.Signals] = (),
    stdin: bytes | int = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[bytes]:
    """As start(). stdin: what comes from a pipe, or a descriptor."""
    given = stdin if isinstance(stdin, int) else subprocess.PIPE
    with start(*words, closed=closed, full=full, ignored=ignored, stdin=given, cwd=cwd, env=env) as process:
        try:
            out, err = process.communicate(None if isinstance(stdin, int) else stdin, timeout_s)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def start(
    *words: str,
    closed: Iterable[int] = (),
    full: Iterable[int] = (),
    ignored: Iterable[signal.Signals] = (),
    stdin: int = subprocess.DEVNULL,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """closed, full: descriptors 0 to 2 that are closed, or /dev/full. ignored: signals. All others are as by
    default."""
    closed, full, ignored = set(closed), set(full), set(ignored)

    def prepare() -> None:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
        for number in full:
            descriptor = os.open("/dev/full", os.O_RDWR)
            os.dup2(descriptor, number)
            os.close(descriptor)
        for number in closed:
            os.close(number)

    return subprocess.Popen(
        [*command_of(words[0]), *words[1:]],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=env,
        preexec_fn=prepare,
        restore_signals=False,
    )
