"""Other Pythons of ours: all of their command lines (tests/unit/system/test_python.py), and their start.

What Python would import from the directory where the user happens to stand must never become our code, often
root's: neither by `-m` (-P, PYTHONSAFEPATH) nor beside a script.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def python_module(name: str, *words: str) -> list[str]:
    """Of an installed module. The environment counts as it did for us: packages of the user's are found."""
    return [sys.executable, "-P", "-m", name, *words]


def python_file(path: str) -> list[str]:
    """Of a file that needs the standard library alone: no environment, no packages."""
    return [sys.executable, "-I", "-S", path]


def spawn(arguments: list[str], files: Sequence[Any], environment: Mapping[str, str] = os.environ) -> int:
    """The process id. In a session of its own: the terminal's signals are not for it. files: as
    posix_spawn's file_actions. Raises OSError."""
    try:
        return os.posix_spawn(arguments[0], arguments, environment, file_actions=files, setsid=True)
    except NotImplementedError:  # a C library without POSIX_SPAWN_SETSID
        return os.posix_spawn(arguments[0], arguments, environment, file_actions=files, setpgroup=0)
