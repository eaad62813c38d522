"""Entry point of `0nc`, netcat over WireHub."""

from __future__ import annotations

import sys

from whtools.outcome import EXIT_USAGE


def main() -> None:
    """Say that it is not there yet."""
    print("0nc: netcat over WireHub comes with a later release", file=sys.stderr)
    sys.exit(EXIT_USAGE)
