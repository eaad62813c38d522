"""One TLS connection that carries datagrams (docs/protocol.md section 1), and its port on loopback, where
the data plane finds it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from wh.net.tcp.framing import PREFACE, BadStream, Deframer, frame
from wh.net.tcp.loopback import LoopbackPort
from wh.wire.address import Address

WRITE_BUFFER_MAX = 64 * 1024
"""Bytes that may wait in the process; with more, datagrams wait on loopback, and are dropped where that is
full."""

UNSENT_MAX = 64 * 1024
"""Bytes that may wait in the kernel beyond what is on its way: they would only be late."""

RECEIVES_PER_CALL = 8
USER_TIMEOUT_MS = 20_000
"""A connection whose bytes nobody acknowledges for so long is dead."""


class TcpLink(asyncio.Protocol):
    """A client speaks first. on_open: both prefaces are there, and so is the port on loopback. on_close:
    once, at the end, also of a link that never opened."""

    def __init__(
        self,
        data_plane_port: int,
        *,
        client: bool,
        on_open: Callable[[TcpLink], None],
        on_close: Callable[[TcpLink], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._data_plane_port = data_plane_port
        self._client = client
        self._on_open = on_open
        self._on_close = on_close
        self._deframer = Deframer()
        self._transport: asyncio.Transport | None = None
        self._port: LoopbackPort | None = None
        self._closed = False
        self.begun_at = self.heard_at = self._loop.time()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def port_address(self) -> Address:
        """Ours on loopback, once the link is open."""
        if self._port is None:
            raise RuntimeError("the link is not open")
        return self._port.address

    @property
    def dropped(self) -> int:
        """Datagrams from the peer that the data plane's socket had no room for."""
        return self._port.dropped if self._port is not None else 0

    def abort(self) -> None:
        """End the connection now. Idempotent."""
        if self._transport is not None and not self._closed:
            self._transport.abort()
        self._end()

    def finish(self) -> None:
        """Send what waits, then end the connection."""
        self._on_port_readable()
        if self._transport is not None:
            self._transport.close()
        self._end()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._closed:
            self._transport.abort()
            return
        _tune(transport.get_extra_info("socket"))
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_MAX)
        if self._client:
            self._transport.write(PREFACE)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        was_open = self._deframer.prefaced
        try:
            datagrams = self._deframer.feed_untrusted(data)
        except BadStream:
            self.abort()
            return
        if self._deframer.prefaced and not was_open:
            self._open()
        if datagrams and self._port is not None:
            self._port.send(datagrams)

    def eof_received(self) -> bool | None:
        """Half a connection is of no use."""
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def pause_writing(self) -> None:
        """The stream is slower than what comes: let it wait on loopback."""
        if self._port is not None:
            self._loop.remove_reader(self._port.fileno())

    def resume_writing(self) -> None:
        if self._port is not None:
            self._loop.add_reader(self._port.fileno(), self._on_port_readable)

    # Inside

    def _open(self) -> None:
        if self._closed or self._transport is None:
            return
        try:
            self._port = LoopbackPort(self._data_plane_port)
        except OSError:
            self.abort()
            return
        if not self._client:
            self._transport.write(PREFACE)
        self._loop.add_reader(self._port.fileno(), self._on_port_readable)
        self._on_open(self)

    def _on_port_readable(self) -> None:
        for _ in range(RECEIVES_PER_CALL):
            if self._port is None or self._transport is None:
                return
            datagrams = self._port.receive()
            if not datagrams:
                return
            self._transport.write(frame(datagrams))

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._port is not None:
            self._loop.remove_reader(self._port.fileno())
            self._port.close()
            self._port = None
        self._on_close(self)


def _tune(tcp: socket.socket | None) -> None:
    """What the kernel may keep for us, and for how long."""
    if tcp is None:
        return
    with suppress(OSError):
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_MAX)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
