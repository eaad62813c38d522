"""How a command ends: exit codes, and how errors and warnings look. Imports next to nothing."""

from __future__ import annotations

import sys

from wh.system.exit_codes import exit_code_of
from whtools.terminal import BOLD, RED, YELLOW, has_colour, paint, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from whcore.errors import WireHubError

EXIT_INTERNAL = 70
"""EX_SOFTWARE of sysexits.h."""
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
"""As a shell says it of a command (POSIX, 2.8.2)."""
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""128 + the signal's number, as a shell reports a process that the signal ended."""


def report(error: WireHubError) -> int:
    """Print an error, or each of those that it stands for, and say with what the process must exit."""
    for problem in getattr(error, "errors", (error,)):
        print_error(str(problem), problem.code, problem.hint, problem.place)
    return exit_code_of(error.code)


def print_error(message: str, code: str = "", hint: str = "", place: str | None = None) -> None:
    _print_problem("error", RED, message, code, hint, place)


def print_warning(message: str, code: str = "", hint: str = "", place: str | None = None) -> None:
    _print_problem("warning", YELLOW, message, code, hint, place)


def _print_problem(word: str, shade: str, message: str, code: str, hint: str, place: str | None) -> None:
    label = paint(f"{word} {code}".rstrip(), f"{BOLD};{shade}", has_colour(sys.stderr))
    lines = [f"wh: {label}: {printable(message)}"]
    if place:
        lines.append(f"  at {printable(place)}")
    if hint:
        lines.append(f"  fix: {printable(hint)}")
    print("\n".join(lines), file=sys.stderr, flush=True)
