"""Other Pythons of ours: all of their command lines (tests/unit/system/test_python.py), and their start.

What Python would import from the directory where the user happens to stand must never become our code, often
root's: neither by `-m` (-P, PYTHONSAFEPATH) nor beside a script.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

NOWHERE = -1
"""In place of a descriptor: /dev/null."""

_ABOVE_ALL_TARGETS = 16
_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def python_module(name: str, *words: str) -> list[str]:
    """Of an installed module. The environment counts as it did for us: packages of the user's are found."""
    return [sys.executable, "-P", "-m", name, *words]


def python_file(path: str) -> list[str]:
    """Of a file that needs the standard library alone: no environment, no packages."""
    return [sys.executable, "-I", "-S", path]


def spawn(arguments: list[str], files: Mapping[int, int], environment: Mapping[str, str] = os.environ) -> int:
    """The process id. In a session of its own: the terminal's signals are not for it, and none is ignored or
    blocked because it was for us. files: its descriptors, below 16, and for each one of ours, or NOWHERE. Of
    0 to 2 it has those that we can pass on, and /dev/null for others. Raises OSError."""
    missing = {number: NOWHERE for number in range(3) if not _is_inheritable(number)}
    held: list[int] = []
    try:
        actions = []
        for target, source in {**missing, **files}.items():
            held.append(_high(source))
            actions.append((os.POSIX_SPAWN_DUP2, held[-1], target))
        return _spawn(arguments, environment, actions)
    finally:
        for descriptor in held:
            os.close(descriptor)


def _spawn(arguments: list[str], environment: Mapping[str, str], actions: Sequence[Any]) -> int:
    settings: dict[str, Any] = {"file_actions": actions, "setsigmask": (), "setsigdef": _SIGNALS}
    try:
        return os.posix_spawn(arguments[0], arguments, environment, setsid=True, **settings)
    except NotImplementedError:  # a C library without POSIX_SPAWN_SETSID
        return os.posix_spawn(arguments[0], arguments, environment, setpgroup=0, **settings)


def _is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def _high(descriptor: int) -> int:
    """A copy whose number is no target."""
    if descriptor != NOWHERE:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE_ALL_TARGETS)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, _ABOVE_ALL_TARGETS)
    finally:
        os.close(null)
