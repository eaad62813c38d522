"""Command lines that start another Python of ours: the only ones (tests/unit/system/test_python.py).

What Python would import from the directory where the user happens to stand must never become our code, often
root's: neither by `-m` (-P, PYTHONSAFEPATH) nor beside a script.
"""

from __future__ import annotations

import sys


def python_module(name: str, *words: str) -> list[str]:
    """Of an installed module. The environment counts as it did for us: packages of the user's are found."""
    return [sys.executable, "-P", "-m", name, *words]


def python_file(path: str) -> list[str]:
    """Of a file that needs the standard library alone: no environment, no packages."""
    return [sys.executable, "-I", "-S", path]
