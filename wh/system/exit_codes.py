"""With what a process of ours ends, by the code of its error: `wh`, and the daemon that it may become."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DAEMON = 3
EXIT_NO_PERMISSION = 4
EXIT_BAD_CONFIG = 5
EXIT_BAD_INVITATION = 6

_CONFIGURATION_CODES = range(110, 130)  # as in wh.errors.Code
_INVITATION_CODES = range(140, 151)
_EXIT_BY_CODE = {
    "WH130": EXIT_USAGE,
    "WH210": EXIT_NO_PERMISSION,
    "WH310": EXIT_NO_DAEMON,
    "WH311": EXIT_NO_PERMISSION,
}


def exit_code_of(code: str) -> int:
    number = int(code[2:]) if code[2:].isdecimal() else 0
    if number in _CONFIGURATION_CODES:
        return EXIT_BAD_CONFIG
    if number in _INVITATION_CODES:
        return EXIT_BAD_INVITATION
    return _EXIT_BY_CODE.get(code, EXIT_FAILED)
