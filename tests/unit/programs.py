"""Our programs as whoever starts them may leave them: descriptors closed or full, signals ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
        out, err = process.communicate(None if isinstance(stdin, int) else stdin, timeout_s)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


@contextmanager
def start(
    *words: str,
    closed: Iterable[int] = (),
    full: Iterable[int] = (),
    ignored: Iterable[signal.Signals] = (),
    stdin: int = subprocess.DEVNULL,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """closed, full: descriptors 0 to 2 that are closed, or /dev/full. ignored: signals. All others are as by
    default, whoever started us. A shell does that, as it does for users; it becomes the program, which is
    killed at the end."""
    script = "".join(f"trap '' {number.name.removeprefix('SIG')}; " for number in ignored)
    redirections = [f"{number}<>/dev/full" for number in full] + [f"{number}<&-" for number in closed]
    script += f'exec "$@" {" ".join(redirections)}'
    with subprocess.Popen(
        ["env", "--default-signal", "sh", "-c", script, "sh", *command_of(words[0]), *words[1:]],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=env,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
