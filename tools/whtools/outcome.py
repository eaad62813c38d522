"""How a command ends: exit codes, and how errors and warnings look. Imports next to nothing."""

from __future__ import annotations

import sys

from whtools.terminal import BOLD, RED, YELLOW, has_colour, paint, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from whcore.errors import WireHubError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DAEMON = 3
EXIT_NO_PERMISSION = 4
EXIT_BAD_CONFIG = 5
EXIT_BAD_INVITATION = 6
EXIT_INTERNAL = 70
"""EX_SOFTWARE of sysexits.h."""
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
"""As a shell says it of a command (POSIX, 2.8.2)."""
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""128 + the signal's number, as a shell reports a process that the signal ended."""


_CONFIGURATION_CODES = range(110, 130)
"""The network file's, in wh/errors.py."""
_INVITATION_CODES = range(140, 151)
_EXIT_BY_CODE = {
    "WH130": EXIT_USAGE,
    "WH210": EXIT_NO_PERMISSION,
    "WH310": EXIT_NO_DAEMON,
    "WH311": EXIT_NO_PERMISSION,
}


def exit_code_of(code: str) -> int:
    """The exit code for an error's stable code (wh/errors.py)."""
    number = int(code[2:]) if code[2:].isdecimal() else 0
    if number in _CONFIGURATION_CODES:
        return EXIT_BAD_CONFIG
    if number in _INVITATION_CODES:
        return EXIT_BAD_INVITATION
    return _EXIT_BY_CODE.get(code, EXIT_FAILED)


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
