"""Searching for a key with enough workbits, with progress where somebody watches."""

from __future__ import annotations

import sys

from whcore.keys import SecretKey
from whtools.terminal import is_terminal

WORKBIT_MAX = 256
_ERASE_LINE = "\r\x1b[K"


def search(workbit: int, namespace: str, *, threads: int = 0) -> SecretKey:
    """threads: 0 for all cores. Ctrl-C raises KeyboardInterrupt."""
    watched = is_terminal(sys.stderr)
    try:
        return SecretKey.search(
            workbit, namespace.encode(), threads=threads, progress=_Progress(workbit) if watched else None
        )
    finally:
        if watched:
            sys.stderr.write(_ERASE_LINE)
            sys.stderr.flush()


class _Progress:
    """A line on standard error that is written over itself."""

    def __init__(self, workbit: int) -> None:
        self._workbit = workbit

    def __call__(self, tried: int, seconds: float) -> None:
        rate = tried / seconds if seconds > 0 else 0.0
        expected = f", about {2**self._workbit / rate:,.0f} s on average" if rate else ""
        sys.stderr.write(
            f"{_ERASE_LINE}searching for {self._workbit} workbits: {tried:,} keys, {rate:,.0f}/s{expected}"
        )
        sys.stderr.flush()
