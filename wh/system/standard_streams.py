"""The descriptors 0 to 2, which whoever started us may have closed, or made of what cannot be used.

Each of our programs calls prepare() before anything else. Filters are quick, so this imports next to nothing.
"""

from __future__ import annotations

import io
import os
import select
import sys

STDIN, STDOUT, STDERR = range(3)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


class StreamError(Exception):
    """Standard input cannot be read, or standard output not be written: the end of a program, in whatever it
    was. code: as in wh.errors."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class ReaderLeft(StreamError):
    """Whoever read our output wants no more: nobody is to be told."""


def prepare() -> None:
    """From now on what cannot be written to standard output raises StreamError; what standard error does not
    take is lost, and changes nothing."""
    open_closed()
    if sys.stdin is None:
        sys.stdin = open(STDIN, closefd=False)  # noqa: PTH123, SIM115 - a descriptor, for the whole run
    sys.stdout = _text(_Output(STDOUT, "w", closefd=False), sys.stdout, errors="replace")
    sys.stderr = _text(_Careless(STDERR, "w", closefd=False), sys.stderr, errors="backslashreplace")


def open_closed() -> None:
    """On /dev/null, for programs that we start too: else the next file that is opened gets the number."""
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def forget_output() -> None:
    """What is still buffered for standard output cannot be written: the flush at exit shall not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDOUT)
    os.close(nowhere)


def read_input(len_max: int) -> bytes:
    """Standard input up to its end, at most so many bytes. Raises StreamError."""
    data = b""
    try:
        while len(data) < len_max and (chunk := _read(len_max - len(data))):
            data += chunk
    except OSError as error:
        raise input_error(error) from None
    return data


def input_error(error: OSError) -> StreamError:
    return StreamError(f"cannot read standard input: {error.strerror}", "WH132")


def output_error(error: OSError) -> StreamError:
    kind = ReaderLeft if isinstance(error, BrokenPipeError) else StreamError
    return kind(f"cannot write: {error.strerror}", "WH131")


def _read(len_max: int) -> bytes:
    while True:
        try:
            return os.read(STDIN, len_max)
        except BlockingIOError:  # somebody else made it non-blocking
            select.select([STDIN], [], [])


class _Output(io.FileIO):
    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as error:
            raise output_error(error) from None
        return written


class _Careless(_Output):
    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except StreamError:
            return len(data)


def _text(raw: io.FileIO, like: TextIO | None, *, errors: str) -> TextIO:
    encoding = like.encoding if like is not None else "utf-8"
    by_line = raw.fileno() == STDERR or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=by_line)
