"""Pairs of UDP sockets on 127.0.0.1, between the data plane, which knows only UDP, and what carries its
datagrams in another way.

The kernel's segmentation works there too: one system call moves up to 64 datagrams.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

from wh.net.opening import closed_on_error
from wh.net.sockets import SO_RCVBUFFORCE, set_buffer
from wh.wire.address import Address, pack

HOST = "127.0.0.1"

# linux/udp.h
SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104

RECEIVE_LEN = 65536
RUN_SEGMENTS = 64
RUN_BYTES = 65000
"""What one UDP_SEGMENT send may hold."""

QUEUE_LEN = 512 * 1024
"""Bytes (as the kernel counts them) that may wait for a slow stream; what comes then is dropped."""

DATA_PLANE_QUEUE_LEN = 4 * 1024 * 1024

_CONTROL_LEN = socket.CMSG_SPACE(4)
_SEGMENT = struct.Struct("=H")
_GRO = struct.Struct("=i")


def open_data_plane_socket() -> socket.socket:
    """The data plane's side of all pairs. Raises OSError."""
    return _open(DATA_PLANE_QUEUE_LEN)


def _open(receive_buffer_len: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with closed_on_error(opened) as udp:
        set_buffer(udp, SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_buffer_len)
        udp.bind((HOST, 0))
    return udp


class LoopbackPort:
    """Our side of one pair. Nobody but the data plane's socket can send to it. Raises OSError where the
    system has no socket for us."""

    def __init__(self, data_plane_port: int) -> None:
        self._udp = _open(QUEUE_LEN)
        self.dropped = 0
        self._room = memoryview(bytearray(RECEIVE_LEN))
        try:
            self._udp.connect((HOST, data_plane_port))
            with suppress(OSError):  # a kernel before 5.0 hands over each datagram by itself
                self._udp.setsockopt(SOL_UDP, UDP_GRO, 1)
        except OSError:
            self._udp.close()
            raise

    @property
    def address(self) -> Address:
        return pack(*self._udp.getsockname())

    def fileno(self) -> int:
        return self._udp.fileno()

    def close(self) -> None:
        self._udp.close()

    def receive(self) -> list[memoryview]:
        """Some of the datagrams that wait, valid until the next call; none: nothing waits."""
        try:
            n, control, _, _ = self._udp.recvmsg_into([self._room], _CONTROL_LEN)
        except OSError:  # also where the data plane's socket has gone
            return []
        segment = n
        for level, kind, data in control:
            if level == SOL_UDP and kind == UDP_GRO:
                (segment,) = _GRO.unpack(data[: _GRO.size])
        return [self._room[at : min(at + segment, n)] for at in range(0, n, segment)] if segment > 0 else []

    def send(self, datagrams: Sequence[bytes]) -> None:
        """In order, and at once; what the system does not take is counted as dropped."""
        for run in _runs(datagrams):
            try:
                if len(run) == 1:
                    self._udp.send(run[0])
                else:
                    self._udp.sendmsg(run, [(SOL_UDP, UDP_SEGMENT, _SEGMENT.pack(len(run[0])))])
            except OSError:
                self.dropped += len(run)


def _runs(datagrams: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut into runs of one length, the last of each may be shorter."""
    first = total = 0
    for i, datagram in enumerate(datagrams):
        if i > first and (
            len(datagrams[i - 1]) != len(datagrams[first])
            or len(datagram) > len(datagrams[first])
            or i - first == RUN_SEGMENTS
            or total + len(datagram) > RUN_BYTES
        ):
            yield datagrams[first:i]
            first, total = i, 0
        total += len(datagram)
    if datagrams:
        yield datagrams[first:]
