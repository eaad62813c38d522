"""The local ends of a stream: descriptors to read from and to write to, never switched to non-blocking,
because others may share them (a terminal, a shell's pipe)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
import subprocess
from collections.abc import Callable

LOOK_S = 0.2
"""How soon an end elsewhere is noticed by who waits for something else."""

PIPE_LEN = 1 << 20
"""Bytes: what an unprivileged process may have (fs.pipe-max-size). Pipes come with a sixteenth of it."""


class Wakeup:
    """Ends waits in other threads, for good."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.happened = False

    def fileno(self) -> int:
        return self._fd

    def wake(self) -> None:
        self.happened = True
        os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        os.close(self._fd)


class Source:
    """A descriptor to read from, closed with close() only where it is owned."""

    def __init__(self, fd: int, *, owned: bool = False) -> None:
        self.fd = fd
        self._owned = owned
        enlarge_pipe(fd)

    def wait(self, wakeup: Wakeup, timeout_s: float | None = None) -> bool:
        """Whether there is something to read, or the end; False: woken up or time is over."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.register(wakeup.fileno(), select.POLLIN)
        ready = poll.poll(None if timeout_s is None else 1000 * timeout_s)
        return not wakeup.happened and any(fd == self.fd for fd, _ in ready)

    def read_into(self, buffer: memoryview) -> int:
        """Bytes read, 0 at the end. Raises OSError."""
        try:
            return os.readv(self.fd, [buffer])
        except OSError as error:
            if error.errno == errno.EIO and os.isatty(self.fd):  # the terminal has gone
                return 0
            raise

    def drain(self, buffer: memoryview, is_over: Callable[[], bool]) -> None:
        """Read what nobody wants any more, up to its end. Raises OSError."""
        poll = select.poll()
        if self.fd >= 0:
            poll.register(self.fd, select.POLLIN)
        while self.fd >= 0 and not is_over():
            if poll.poll(1000 * LOOK_S) and not self.read_into(buffer):
                return

    @property
    def is_pipe(self) -> bool:
        return self.fd >= 0 and stat.S_ISFIFO(os.fstat(self.fd).st_mode)

    def close(self) -> None:
        if self._owned and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Sink:
    """A descriptor to write to. Where it is owned, close() lets the reader see the end."""

    def __init__(self, fd: int, *, owned: bool = True) -> None:
        self.fd = fd
        self._owned = owned
        enlarge_pipe(fd)

    def write(self, data: memoryview) -> None:
        """All of it. Raises OSError."""
        while data:
            try:
                written = os.write(self.fd, data)
            except BlockingIOError:  # somebody else made it non-blocking
                select.select([], [self.fd], [])
                continue
            data = data[written:]

    def close(self) -> None:
        """Idempotent. Raises OSError where what was written is lost after all."""
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            with socket.socket(fileno=os.dup(fd)) as connection, contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        if self._owned:
            os.close(fd)


class Command:
    """A command whose streams are the local ends."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def wait(self, is_over: Callable[[], bool]) -> int | None:
        """Its status, as a shell has it, when it has ended; None where is_over() comes first."""
        while not is_over():
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(LOOK_S)
                return status if status >= 0 else 128 - status
        return None


class Conduit:
    """A pipe of our own between another one and a socket: memory moves through without being copied."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_CLOEXEC)
        enlarge_pipe(self._in)

    def fill_from(self, fd: int) -> int:
        """Wait for bytes of a pipe and take what there is, at most PIPE_LEN. 0: its end. Raises OSError."""
        return os.splice(fd, self._in, PIPE_LEN)

    def empty_into(self, connection: socket.socket, count: int) -> None:
        """Raises OSError."""
        while count:
            count -= os.splice(self._out, connection.fileno(), count)

    def close(self) -> None:
        os.close(self._in)
        os.close(self._out)


def enlarge_pipe(fd: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_LEN)
