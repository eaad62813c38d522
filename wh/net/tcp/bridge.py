"""Paths over TCP, between the engine, which knows them by the address of who is at the other end, and the
data plane, which knows each as a port on loopback.

What the data plane sends to such a port goes into a TLS connection, and what comes out of one goes to the
data plane from its port: control, data and relay channels alike. Datagrams are dropped where the stream is
too slow, never kept waiting for long.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

from wh.engine.events import TCP, Event, Path, TcpConnected, TcpLost
from wh.net.tcp.certificate import client_context, server_context
from wh.net.tcp.link import TcpLink
from wh.net.tcp.listener import TcpListener
from wh.net.tcp.loopback import open_data_plane_socket
from wh.wire.address import Address, ip_of
from whcore.datapath import ControlDatagram, Datapath
from whcore.errors import SystemFailure

log = logging.getLogger(__name__)

DIAL_TIMEOUT_S = 8.0
"""For a connection, TLS in it, and the prefaces in that."""

STAGGER_S = 0.3
"""Between attempts at one port and the next."""

DIALS_MAX = 16
LAST_WORDS_S = 1.0
"""What a link brought before its end may still wait in the data plane."""


class TcpBridge:
    """tell is given TcpConnected and TcpLost for what connect() began. Use it in a running loop only."""

    def __init__(self, datapath: Datapath) -> None:
        self.tell: Callable[[Event], None] = lambda event: None
        self._datapath = datapath
        self._socket: int | None = None  # the data plane's, on loopback
        self._data_plane_port = 0
        self._links: dict[Address, TcpLink] = {}  # by the address that the engine knows
        self._ports: dict[Address, Address] = {}  # that address -> the link's port on loopback
        self._named: dict[Address, Address] = {}  # the other way round
        self._dials: dict[Address, asyncio.Task[None]] = {}
        self._listener: TcpListener | None = None
        self._client_context: ssl.SSLContext | None = None

    # What addresses mean on either side

    def to_data_plane(self, path: Path) -> Path | None:
        """The same path as the data plane knows it; None where the connection has gone."""
        if path.socket != TCP:
            return path
        port = self._ports.get(path.remote)
        if port is None or self._socket is None:
            return None
        return Path(self._socket, port, path.channel)

    def from_data_plane(self, path: Path) -> Path | None:
        """As the engine knows it; None for what came from no connection of ours."""
        if path.socket != self._socket:
            return path
        address = self._named.get(path.remote)
        return None if address is None else Path(TCP, address, path.channel)

    def datagram_from_data_plane(self, datagram: ControlDatagram) -> ControlDatagram | None:
        if datagram.socket != self._socket:
            return datagram
        address = self._named.get(datagram.remote)
        return None if address is None else datagram._replace(socket=TCP, remote=address, source=b"")

    def proved(self, path: Path, *, member: bool) -> None:
        """Somebody has a control session on this path, and has just used it. member: of our network."""
        link = self._links.get(path.remote) if path.socket == TCP else None
        if link is not None and self._listener is not None:
            self._listener.proved(link, member=member)

    # Life

    def connect(self, address: Address, ports: Sequence[int]) -> None:
        """Reach the node that is at `address` with UDP by TCP, at any of these ports. TcpConnected or TcpLost
        follows; nothing where that is under way."""
        if address in self._links or address in self._dials:
            return
        if len(self._dials) >= DIALS_MAX:
            asyncio.get_running_loop().call_soon(self.tell, TcpLost(address))
            return
        self._dials[address] = asyncio.ensure_future(self._connect(address, tuple(ports)))

    def disconnect(self, address: Address) -> None:
        """Nothing is told of an end that was wanted."""
        dial = self._dials.pop(address, None)
        if dial is not None:
            dial.cancel()
        link = self._drop(address)
        if link is not None:
            link.abort()

    def listen(self, port: int) -> None:
        """Raises SystemSetupError."""
        self._open_socket()
        self._listener = TcpListener(port, server_context(), self._accepted)

    def expire(self) -> None:
        """Call it every few seconds."""
        if self._listener is not None:
            self._listener.expire()

    def close(self) -> None:
        """Before the data plane is. What it has sent still goes out; nothing is told any more."""
        self.tell = lambda event: None
        if self._listener is not None:
            self._listener.close()
        for link in list(self._links.values()):
            link.finish()
        for address in [*self._dials, *self._links]:
            self.disconnect(address)

    def counters(self) -> dict[str, int]:
        """Connections now, and what the listener refused."""
        counts = {"tcp_links": len(self._links)}
        return counts if self._listener is None else {**counts, **self._listener.counters()}

    # As a client

    async def _connect(self, address: Address, ports: tuple[int, ...]) -> None:
        link = None
        with suppress(OSError, SystemFailure, ValueError):  # the data plane has no room
            self._open_socket()
            link = await self._dial_any(address, ports)
        del self._dials[address]
        if link is not None and self._take(address, link):
            self.tell(TcpConnected(address))
        else:
            self.tell(TcpLost(address))

    async def _dial_any(self, address: Address, ports: tuple[int, ...]) -> TcpLink | None:
        """The first that answers as one of us does; what else listens there is no matter."""
        host = str(ip_of(address))
        attempts = [
            asyncio.ensure_future(self._dial(address, host, port, i * STAGGER_S))
            for i, port in enumerate(ports)
        ]
        winner = None
        try:
            for attempt in asyncio.as_completed(attempts):
                with suppress(OSError, EOFError):  # ssl.SSLError and TimeoutError among them
                    winner = await attempt
                    return winner
        finally:
            for other in attempts:
                other.cancel()
            for link in await asyncio.gather(*attempts, return_exceptions=True):
                if isinstance(link, TcpLink) and link is not winner:
                    link.abort()
        return None

    async def _dial(self, address: Address, host: str, port: int, delay_s: float) -> TcpLink:
        await asyncio.sleep(delay_s)
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[TcpLink] = loop.create_future()

        def on_open(link: TcpLink) -> None:
            if not opened.done():
                opened.set_result(link)

        def on_close(link: TcpLink) -> None:
            if not opened.done():
                opened.set_exception(ConnectionError("not one of us"))
                opened.exception()
            self._lost(address, link)

        link = TcpLink(self._data_plane_port, client=True, on_open=on_open, on_close=on_close)
        if self._client_context is None:
            self._client_context = client_context()
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await loop.create_connection(
                    lambda: link, host, port, ssl=self._client_context, server_hostname=""
                )
                return await opened
        except BaseException:
            link.abort()
            raise

    # As a server

    def _accepted(self, address: Address, forget: Callable[[TcpLink], None]) -> TcpLink:
        def on_open(link: TcpLink) -> None:
            if not self._take(address, link):
                link.abort()

        def on_close(link: TcpLink) -> None:
            forget(link)
            self._lost(address, link)

        return TcpLink(self._data_plane_port, client=False, on_open=on_open, on_close=on_close)

    # Both

    def _open_socket(self) -> None:
        if self._socket is not None:
            return
        udp = open_data_plane_socket()
        try:
            self._data_plane_port = udp.getsockname()[1]
            self._socket = self._datapath.add_socket(udp.fileno())
        except BaseException:
            udp.close()
            raise
        udp.detach()

    def _take(self, address: Address, link: TcpLink) -> bool:
        """Use an open link. False where there is one to that address already, or this one has just ended."""
        if address in self._links or link.closed:
            return False
        self._links[address] = link
        self._ports[address] = link.port_address
        self._named[link.port_address] = address
        return True

    def _lost(self, address: Address, link: TcpLink) -> None:
        if self._links.get(address) is link:
            self._drop(address)
            self.tell(TcpLost(address))

    def _drop(self, address: Address) -> TcpLink | None:
        link = self._links.pop(address, None)
        if link is not None:
            port = self._ports.pop(address)
            asyncio.get_running_loop().call_later(LAST_WORDS_S, self._forget_port, port, address)
        return link

    def _forget_port(self, port: Address, address: Address) -> None:
        if self._named.get(port) == address and self._ports.get(address) != port:
            del self._named[port]
