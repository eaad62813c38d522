"""What a stream needs of TCP: a connection that is fast, notices its loss, and knows what has arrived."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import select
import socket
import struct
import termios
import time

from wh.streams.failure import End, StreamFailure

LOST_AFTER_S = 60.0
"""Without an answer of the other end's TCP, where nobody says how long. Paths are mended in a few seconds."""

RTO_MAX_MS = 5000
"""Linux 6.15 can be told not to double the time to the next try for ever: else it comes up to two minutes
after the other end is back."""

HANG_UP_S = 2.0
"""At most, for the other end to have what we said last; there is nothing else to wait for."""

POLL_S = 0.002

CONGESTION_CONTROL = b"bbr"
"""Where the kernel has it: a loss says nothing of the rate to it, and much to the usual ones."""

_TCP_KEEPIDLE_S, _TCP_KEEPINTVL_S, _TCP_KEEPCNT_MAX = 5, 5, 127
_TCP_RTO_MAX_MS = 44  # linux/tcp.h
_TCP_INFO = struct.Struct("8x9I4I")
"""Up to tcpi_last_ack_recv (linux/tcp.h)."""
_LOST_ERRORS = frozenset(
    {
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
    }
)


def prepare(connection: socket.socket, lost_after_s: float = LOST_AFTER_S) -> None:
    """What a connection needs that must be fast on bad wires, and notice the loss of its peer. lost_after_s:
    without any answer."""
    connection.setblocking(True)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _TCP_KEEPIDLE_S)
    between = max(_TCP_KEEPINTVL_S, math.ceil(lost_after_s / _TCP_KEEPCNT_MAX))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, between)
    count = max(1, min(_TCP_KEEPCNT_MAX, int(lost_after_s - _TCP_KEEPIDLE_S) // between))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * lost_after_s))
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, RTO_MAX_MS)


def unheard_s(connection: socket.socket) -> float:
    """Since data or an acknowledgement came; keepalives are answered too."""
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return 0.0
    *_, last_data_recv, last_ack_recv = _TCP_INFO.unpack(told)
    return float(min(last_data_recv, last_ack_recv)) / 1000


def lost(error: OSError) -> StreamFailure:
    if error.errno in _LOST_ERRORS or error.errno is None:
        return StreamFailure(End.LOST, f"the connection broke: {error.strerror or error}")
    return StreamFailure(End.LOCAL_ERROR, f"the connection failed: {error.strerror}")


def pending_loss(connection: socket.socket) -> StreamFailure | None:
    """What the kernel knows of a connection that nobody has used since."""
    number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number in _LOST_ERRORS:
        return StreamFailure(End.LOST, f"the connection broke: {os.strerror(number)}")
    return None


def read_exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise StreamFailure(End.LOST, "the other end went away")
        data += part
    return data


def wait_for_end(connection: socket.socket, patience_s: float) -> bool:
    """Say that nothing follows, and drop what comes until the other end says so too; False where the
    connection is broken. Data that came in later would be answered with a reset, which may overtake what we
    said."""
    deadline = time.monotonic() + patience_s
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    try:
        connection.shutdown(socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(1000 * left) and not connection.recv(1 << 16):
                break
    except OSError:
        return False
    return True


def wait_for_acknowledgement(connection: socket.socket, patience_s: float) -> bool:
    """Whether the other kernel has everything that we sent."""
    deadline = time.monotonic() + patience_s
    with contextlib.suppress(OSError):
        while _unacknowledged(connection):
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
    return True


def hang_up(connection: socket.socket) -> None:
    """Close a connection that no stream has taken. The tunnel may end with this process, so the other end
    must have everything before."""
    with contextlib.suppress(OSError), connection:
        connection.shutdown(socket.SHUT_WR)
        wait_for_acknowledgement(connection, HANG_UP_S)


def _unacknowledged(connection: socket.socket) -> int:
    """Bytes, and a FIN, that the other kernel has not acknowledged (tcp(7), SIOCOUTQ)."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
