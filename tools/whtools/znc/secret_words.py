"""An invitation is a secret: it must not stay in what `ps` and /proc show of this process."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from wh.system.files import open_readable

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
    needle = secret.encode()
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
    """The text of an invitation: the word itself, of standard input for `-`, of a file of that name, or of
    ZNC_INVITE where there is no word. None: there is none. Raises OSError."""
    if word is None:
        return os.environ.get(VARIABLE)
    if word == "-":
        return _read_line(0)
    if len(word) < 256 and Path(word).is_file():
        with os.fdopen(open_readable(word), "rb") as file:
            return _read_line(file.fileno())
    return word


def _read_line(descriptor: int) -> str:
    """Byte by byte: what follows the line belongs to the stream."""
    line = bytearray()
    while len(line) < INVITATION_LEN_MAX and (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode("utf-8", "replace").strip()
