"""What the stream is joined to here: the standard streams, or a command."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from wh.streams.endpoints import Command, Sink, Source
from whtools.znc.settings import Settings

STDIN, STDOUT = 0, 1
ENDING_S = 1.0


class LocalEnds(NamedTuple):
    """ends_with_peer, total: as Stream and Progress take them."""

    source: Source | None
    sink: Sink | None
    ends_with_peer: bool = False
    total: int | None = None
    command: Command | None = None


class StandardStreams:
    """Made once, before anything is written to standard output."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Under another number, so that closing it is seen by its reader, and nothing else gets number 1.
        self._stdout = os.dup(STDOUT)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, STDOUT)
        os.close(null)

    @contextmanager
    def opened(self) -> Iterator[LocalEnds]:
        """With keep_open, standard output stays open for the next."""
        settings = self._settings
        source = None if settings.recv_only else Source(STDIN)
        sink = None if settings.send_only else Sink(self._stdout, owned=not settings.keep_open)
        # `0nc INVITATION | tar x`: on that terminal nobody is going to type.
        silent = source is not None and os.isatty(STDIN) and not os.isatty(self._stdout)
        yield LocalEnds(source, sink, silent, _size_of(STDIN) if source is not None else None)


@contextmanager
def command_ends(command: str) -> Iterator[LocalEnds]:
    """A command, run by sh, whose standard input gets what comes in, and whose output goes out."""
    process = subprocess.Popen(  # noqa: S602 - that is what -e is
        command, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None
    source = Source(os.dup(process.stdout.fileno()), owned=True)
    sink = Sink(os.dup(process.stdin.fileno()))
    process.stdin.close()
    process.stdout.close()
    try:
        yield LocalEnds(source, sink, command=Command(process))
    finally:
        source.close()
        sink.close()
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its streams are closed, which ends most commands; then SIGTERM, then SIGKILL."""
    for end in (None, process.terminate, process.kill):
        if end is not None:
            end()
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            continue
        return


def _size_of(descriptor: int) -> int | None:
    """Bytes that are left of a regular file."""
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:
        return None
    return None
