"""What the stream is joined to here: the standard streams, or a command."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import NamedTuple

from wh.streams.endpoints import Command, Sink, Source
from wh.streams.frames import DIGEST_LEN, Have
from whtools.znc.outcome import EXIT_IO, Ended
from whtools.znc.settings import Settings

STDIN, STDOUT = 0, 1
HASHED_AT_ONCE = 1 << 20
ENDING_S = 1.0


class LocalEnds(NamedTuple):
    """ends_with_peer, total: as Stream and Progress take them. beginning: of what comes, that the sink has
    already. feeds_program: a command, or a shell's pipe, gets what comes."""

    source: Source | None
    sink: Sink | None
    ends_with_peer: bool = False
    total: int | None = None
    command: Command | None = None
    beginning: Have | None = None
    feeds_program: bool = False


class StandardStreams:
    """Made once, before anything is written to standard output."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._resumed = resumed_file(settings.resume) if settings.resume is not None else None
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
        beginning = None
        if self._resumed is not None:
            sink, beginning = self._resumed
        # `0nc INVITATION | tar x`: on that terminal nobody is going to type.
        silent = source is not None and os.isatty(STDIN) and not os.isatty(self._stdout)
        yield LocalEnds(
            source,
            sink,
            silent,
            _size_of(STDIN) if source is not None else None,
            beginning=beginning,
            feeds_program=beginning is None and stat.S_ISFIFO(os.fstat(self._stdout).st_mode),
        )


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
        yield LocalEnds(source, sink, command=Command(process), feeds_program=True)
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


def resumed_file(path: str) -> tuple[Sink, Have]:
    """Behind what an earlier stream has left there, for which alone it is open; and what that is. Raises
    Ended."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = blake2b(digest_size=DIGEST_LEN)
        total = 0
        while part := os.read(descriptor, HASHED_AT_ONCE):
            found.update(part)
            total += len(part)
    except BlockingIOError:
        raise Ended(EXIT_IO, f"{path} is written by another program") from None
    except OSError as error:
        raise Ended(EXIT_IO, f"cannot resume {path}: {error.strerror}") from None
    return Sink(descriptor), Have(total, found.digest())


def _size_of(descriptor: int) -> int | None:
    """Bytes that are left of a regular file."""
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:
        return None
    return None
