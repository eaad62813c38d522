"""A proxy into an overlay: SOCKS5 (RFC 1928, CONNECT, no authentication) and HTTP CONNECT (RFC 9110 9.3.6),
told apart by their first byte.

All that serving needs is imported with this module: where the process goes into a namespace in between, the
program's own files may be out of its reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Callable
from typing import NamedTuple

import uvloop

HANDSHAKE_S = 10.0
CONNECT_S = 20.0
CONNECTIONS_MAX = 1024
HEADER_LEN_MAX = 8192
CHUNK_LEN = 1 << 18

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

Resolve = Callable[[str], list[str]]
"""The overlay addresses of a name; none where it is not of the overlay. Called in a thread."""


class Target(NamedTuple):
    host: str
    port: int


class _Refused(Exception):
    """Of a request, with the SOCKS5 reply."""

    def __init__(self, reply: int) -> None:
        self.reply = reply


class Proxy:
    """serve() until cancelled."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._accept, sock=listener, limit=CHUNK_LEN)
        async with server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                await self._handle(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

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
        addresses = [target.host] if _is_address(target.host) else []
        addresses = addresses or await asyncio.to_thread(self._resolve, target.host)
        reply = _UNREACHABLE
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await asyncio.open_connection(address, target.port, limit=CHUNK_LEN)
            except ConnectionRefusedError:
                reply = _REFUSED
            except (OSError, TimeoutError):
                reply = _UNREACHABLE
        raise _Refused(reply)


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
    if _is_address(host) and ipaddress.ip_address(host).is_loopback:
        raise _Refused(_NOT_ALLOWED)
    return Target(host, port)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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


def run(listener: socket.socket, resolve: Resolve) -> None:
    """Serve until interrupted."""
    uvloop.run(Proxy(resolve).serve(listener))
