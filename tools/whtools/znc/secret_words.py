"""An invitation is a secret: it must not stay in what `ps` and /proc show of this process."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from wh.system.files import UnsafePlace, read_input
from wh.trust.pasting import PASTED_LEN_MAX, is_found

VARIABLE = "ZNC_INVITE"
INVITATION_LEN_MAX = 8192

_ARG_START, _ENV_END = 48 - 3, 51 - 3  # fields of /proc/self/stat, counted behind the program's name


def hide(secret: str) -> None:
    """Write over each place in argv and environment where the kernel shows the word, and drop the
    variable."""
    os.environ.pop(VARIABLE, None)
    try:
        start, arg_end, env_start, env_end = _areas()
        areas = [
            (start, Path("/proc/self/cmdline").read_bytes(), arg_end),
            (env_start, Path("/proc/self/environ").read_bytes(), env_end),
        ]
    except (OSError, ValueError, IndexError):
        return  # no /proc: nobody sees it there
    needle = os.fsencode(secret)
    for base, content, end in areas:
        at = content.find(needle)
        while needle and at >= 0:
            if base + at + len(needle) <= end:
                ctypes.memset(base + at, ord("x"), len(needle))
            at = content.find(needle, at + len(needle))


def _areas() -> list[int]:
    """arg_start, arg_end, env_start, env_end (proc_pid_stat(5))."""
    behind_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in behind_name[_ARG_START : _ENV_END + 1]]


def read_invitation(word: str | None) -> str | None:
    """The text that holds an invitation: the word itself, the first lines of standard input for `-`, what is
    in a file of that name, or in ZNC_INVITE where there is no word. None: there is none. Raises OSError."""
    if word is None:
        return os.environ.get(VARIABLE)
    if word == "-":
        return _read_lines(0)
    return read_file_or_word(word)


def read_file_or_word(word: str) -> str:
    """Raises OSError where there is such a file, and it is not for us to read."""
    try:
        return read_input(word, PASTED_LEN_MAX).decode("utf-8", "replace")
    except (PermissionError, UnsafePlace):
        raise
    except (OSError, ValueError):  # no such file, or nothing that could be one
        return word


def _read_lines(descriptor: int) -> str:
    """Up to the line that completes an invitation, or an empty one behind its beginning. Byte by byte: what
    follows belongs to the stream."""
    text = ""
    while len(text) < INVITATION_LEN_MAX:
        line = _read_line(descriptor)
        text += line
        if not line or is_found(text) or (line.isspace() and not text.isspace()):
            break
    return text


def _read_line(descriptor: int) -> str:
    """With its end."""
    line = bytearray()
    while len(line) < INVITATION_LEN_MAX and (byte := os.read(descriptor, 1)):
        line += byte
        if byte == b"\n":
            break
    return line.decode("utf-8", "replace")
