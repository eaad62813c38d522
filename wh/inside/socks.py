"""A proxy into an overlay: SOCKS5 (RFC 1928, CONNECT, no authentication) and HTTP CONNECT (RFC 9110 9.3.6),
told apart by their first byte.

All that serving needs is imported with this module: where the process goes into a namespace in between, the
program's own files may be out of its reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import encodings.idna  # noqa: F401 (uvloop wants it to read a numeric address)
import ipaddress
import re
import resource
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import uvloop

from wh.config.model import IPAddress
from wh.errors import Code, IpcError
from wh.inside.names import addresses_of
from wh.ipc import schema
from whcore.errors import InvalidKey
from whcore.keys import decode_key, encode_key

HANDSHAKE_S = 10.0
CONNECT_S = 20.0
CONNECTIONS_MAX = 1024
FILES_BESIDE = 64
"""Descriptors for all but the two of each connection."""

HEADER_LEN_MAX = 8192
CHUNK_LEN = 1 << 18

LOOK_S = 1.0
"""How old what is known of the members may be, and how long the proxy outlives its daemon."""

SILENCE_MAX_S = 10.0
"""A daemon that answers nothing for so long is taken for gone."""

KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
"""Seconds, seconds, count: who has vanished without a word is noticed within two minutes."""

_SO_BINDTOIFINDEX = 62  # asm-generic/socket.h; Linux 5.1

_SOCKS5 = 5
_NO_AUTHENTICATION, _NO_METHOD = 0, 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_OK, _NOT_ALLOWED, _UNREACHABLE, _REFUSED, _BAD_COMMAND, _BAD_ADDRESS = 0, 2, 4, 5, 7, 8
_HTTP_STATUS = {
    _OK: "200 Connection established",
    _NOT_ALLOWED: "403 Forbidden",
    _UNREACHABLE: "502 Bad Gateway",
    _REFUSED: "502 Bad Gateway",
    _BAD_COMMAND: "405 Method Not Allowed",
    _BAD_ADDRESS: "400 Bad Request",
}
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([^ \r\n]{1,512}) HTTP/1\.[01]\r\n")
_MEMBER_KINDS = frozenset({"trust", "router"})


@dataclass(frozen=True, slots=True)
class Overlay:
    """Where the proxy may go: the addresses of the other members, and nowhere else. Not this node's own: what
    listens there are services of this host. names: host names in lower case, and keys."""

    addresses: frozenset[IPAddress] = frozenset()
    names: Mapping[str, tuple[IPAddress, ...]] = field(default_factory=dict)

    def find(self, host: str) -> tuple[IPAddress, ...]:
        """Raises _Refused. Names are those of the members only: nobody else's resolver is asked, and so no
        other spelling of an address means one."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            found = self.names.get(_canonical(host), ())
            if not found:
                raise _Refused(_UNREACHABLE) from None
        else:
            found = _plain(address)
        allowed = tuple(each for each in found if each in self.addresses)
        if not allowed:
            raise _Refused(_NOT_ALLOWED)
        return allowed


def _plain(address: IPAddress) -> tuple[IPAddress, ...]:
    """IPv4 in IPv6's notation (RFC 4291, 2.5.5.2) is IPv4. A zone names an interface, and leads nowhere."""
    if not isinstance(address, ipaddress.IPv6Address):
        return (address,)
    return () if address.scope_id else (address.ipv4_mapped or address,)


def overlay_of(status: schema.Status) -> Overlay:
    """What a daemon says of its members, as an Overlay."""
    own = {ipaddress.ip_address(text) for text in (status.address, status.orchid) if text}
    addresses: set[IPAddress] = set()
    names: dict[str, tuple[IPAddress, ...]] = {}
    for peer in status.peers:
        if peer.alias or peer.kind not in _MEMBER_KINDS or peer.public_key == status.public_key:
            continue
        texts = (peer.address, peer.orchid)
        theirs = tuple(ip for ip in (ipaddress.ip_address(text) for text in texts if text) if ip not in own)
        addresses.update(theirs)
        named = tuple(ip for ip in map(ipaddress.ip_address, addresses_of(peer)) if ip in theirs)
        names[peer.public_key] = named
        if peer.hostname:
            names[peer.hostname.lower()] = named
    return Overlay(frozenset(addresses), names)


def _canonical(name: str) -> str:
    try:
        return encode_key(decode_key(name))
    except InvalidKey:
        return name.lower()


Look = Callable[[], Overlay]
"""Ask the daemon, blocking. Raises IpcError: with Code.NO_DAEMON where the proxy has lost its daemon."""


class Target(NamedTuple):
    host: str
    port: int


class _Refused(Exception):
    """Of a request, with the SOCKS5 reply."""

    def __init__(self, reply: int) -> None:
        self.reply = reply


class Proxy:
    """serve() until cancelled, or until its daemon has gone (IpcError). ifindex: of the daemon's interface;
    another one of the same name is not gone to."""

    def __init__(self, look: Look, ifindex: int, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self._look = look
        self._ifindex = ifindex
        self._connections_max = connections_max
        self._overlay = Overlay()
        self._connections: dict[asyncio.Task[None], IPAddress | None] = {}  # where they lead by now

    async def serve(self, listener: socket.socket) -> None:
        keep_alive(listener)  # what it accepts inherits that
        self._overlay = await asyncio.to_thread(self._look)
        server = await asyncio.start_server(self._accept, sock=listener, limit=CHUNK_LEN)
        try:
            await self._follow()
        finally:
            server.close()
            await self._end_connections()

    async def _end_connections(self) -> None:
        """None outlives the loop, which its end needs."""
        self._connections_max = 0
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _follow(self) -> None:
        """Members come and go. Raises IpcError where the daemon has gone, or is silent for too long."""
        clock = asyncio.get_running_loop().time
        answered_at = clock()
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._overlay = await asyncio.to_thread(self._look)
            except IpcError as error:
                if error.code == Code.NO_DAEMON or clock() - answered_at > SILENCE_MAX_S:
                    raise
                continue
            answered_at = clock()
            for task, address in self._connections.items():
                if address is not None and address not in self._overlay.addresses:
                    task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._connections_max:
            writer.close()
            return
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._connections[task] = None

        def ended(_: asyncio.Task[None]) -> None:
            del self._connections[task]
            writer.close()

        task.add_done_callback(ended)  # also of one that was cancelled before it began

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            await self._handle(reader, writer)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HANDSHAKE_S):
            first = await reader.readexactly(1)
            is_socks = first[0] == _SOCKS5
            try:
                read = _read_socks(reader, writer) if is_socks else _read_http(first, reader)
                target = await read
            except _Refused as refused:
                await _answer(writer, refused.reply, is_socks)
                return
        try:
            far_reader, far_writer = await self._connect(target)
        except _Refused as refused:
            await _answer(writer, refused.reply, is_socks)
            return
        try:
            await _answer(writer, _OK, is_socks)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            far_writer.close()

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises _Refused."""
        reply = _UNREACHABLE
        for address in self._overlay.find(target.host):
            try:
                async with asyncio.timeout(CONNECT_S):
                    streams = await self._open(address, target.port)
            except ConnectionRefusedError:
                reply = _REFUSED
            except (OSError, TimeoutError):
                reply = _UNREACHABLE
            else:
                if (task := asyncio.current_task()) is not None:
                    self._connections[task] = address
                return streams
        raise _Refused(reply)

    async def _open(self, address: IPAddress, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """By the interface and no other way, whatever the routes are by now. Raises OSError."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            bind_to(connection, self._ifindex)
            keep_alive(connection)
            await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
            return await asyncio.open_connection(sock=connection, limit=CHUNK_LEN)
        except BaseException:
            connection.close()
            raise


def bind_to(connection: socket.socket, ifindex: int) -> None:
    """Raises OSError: before Linux 5.7 only root may (CAP_NET_RAW), before 5.1 nobody can."""
    connection.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, ifindex)


def keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def _read_socks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Target:
    """The version has been read. Raises _Refused, EOFError."""
    methods = await reader.readexactly((await reader.readexactly(1))[0])
    if _NO_AUTHENTICATION not in methods:
        writer.write(bytes((_SOCKS5, _NO_METHOD)))
        await writer.drain()
        raise EOFError
    writer.write(bytes((_SOCKS5, _NO_AUTHENTICATION)))
    version, command, _, kind = await reader.readexactly(4)
    if version != _SOCKS5:
        raise EOFError
    match kind:
        case 1 | 4:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == _IPV4 else 16)))
        case 3:
            name = await reader.readexactly((await reader.readexactly(1))[0])
            host = name.decode("ascii", "replace")
        case _:
            raise _Refused(_BAD_ADDRESS)
    port = int.from_bytes(await reader.readexactly(2), "big")
    if command != _CONNECT:
        raise _Refused(_BAD_COMMAND)
    return _target(host, port)


async def _read_http(first: bytes, reader: asyncio.StreamReader) -> Target:
    """Raises _Refused, EOFError. Header fields are read over."""
    try:
        head = first + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Refused(_BAD_ADDRESS) from None
    line = _REQUEST_LINE.match(head)
    if line is None or len(head) > HEADER_LEN_MAX:
        raise _Refused(_BAD_ADDRESS)
    if line[1] != b"CONNECT":
        raise _Refused(_BAD_COMMAND)
    host, colon, port = line[2].decode("ascii", "replace").rpartition(":")
    if not colon or re.fullmatch(r"[0-9]{1,5}", port) is None:
        raise _Refused(_BAD_ADDRESS)
    return _target(host.removeprefix("[").removesuffix("]"), int(port))


def _target(host: str, port: int) -> Target:
    if not 1 <= port <= 0xFFFF or not host or not host.isprintable() or "\ufffd" in host:
        raise _Refused(_BAD_ADDRESS)
    return Target(host, port)


async def _answer(writer: asyncio.StreamWriter, reply: int, is_socks: bool) -> None:
    if is_socks:
        writer.write(bytes((_SOCKS5, reply, 0, _IPV4)) + bytes(6))
    else:
        writer.write(f"HTTP/1.1 {_HTTP_STATUS[reply]}\r\n\r\n".encode())
    await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, with its own end."""
    while data := await reader.read(CHUNK_LEN):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


def run(listener: socket.socket, look: Look, ifindex: int) -> None:
    """Serve until interrupted, or until the daemon has gone (IpcError)."""
    uvloop.run(Proxy(look, ifindex, connections_max=_connections_max()).serve(listener))


def _connections_max() -> int:
    """As many as there can be descriptors for."""
    wanted = 2 * CONNECTIONS_MAX + FILES_BESIDE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, (files - FILES_BESIDE) // 2)
