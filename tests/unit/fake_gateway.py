"""A gateway on a loopback socket that answers what the test says."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from wh.net.links.rtnetlink import Gateway

LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
GATEWAY = Gateway(LOOPBACK, LOOPBACK, 1)
EXTERNAL = ipaddress.IPv4Address("203.0.113.5")

# Replies of RFC 6886 and RFC 6887.
NATPMP_ADDRESS_REPLY = bytes.fromhex("00800000 000003e8 c0000201")
NATPMP_MAP_REPLY = bytes.fromhex("00810000 000003e8 0fa036b0 00001c20")
PCP_NONCE = bytes(range(12))
PCP_MAP_DATA = PCP_NONCE + bytes.fromhex("11000000 0fa0 36b0 00000000000000000000ffffc0000201")
PCP_REPLY_HEADER = bytes.fromhex("02810000 00000e10 000003e8 000000000000000000000000")
PCP_MAP_REPLY = PCP_REPLY_HEADER + PCP_MAP_DATA

React = Callable[[bytes], Iterable[bytes]]


class FakeGateway(asyncio.DatagramProtocol):
    """react: a request to the datagrams that go back."""

    def __init__(self, react: React) -> None:
        self.react = react
        self.requests: list[bytes] = []
        self.port = 0
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.requests.append(data)
        for reply in self.react(data):
            self._transport.sendto(reply, addr)


@asynccontextmanager
async def serving(react: React, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[FakeGateway]:
    made = FakeGateway(react)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: made, local_addr=(address, port)
    )
    try:
        yield made
    finally:
        transport.close()


def silent(request: bytes) -> Iterable[bytes]:
    return ()


def natpmp(*, epoch: Callable[[], int] = lambda: 1000, result: int = 0, lifetime: int | None = None) -> React:
    """A gateway that speaks NAT-PMP. lifetime: granted; None: what is asked for."""

    def react(request: bytes) -> Iterable[bytes]:
        version, opcode = request[:2]
        if version != 0:
            yield struct.pack(">BBHI", 0, 128 | opcode, 1, epoch())
        elif opcode == 0:
            yield struct.pack(">BBHI4s", 0, 128, result, epoch(), EXTERNAL.packed)
        else:
            _, _, _, internal, external, asked = struct.unpack(">BBHHHI", request)
            granted = asked if lifetime is None else min(asked, lifetime)
            yield struct.pack(">BBHIHHI", 0, 128 | opcode, result, epoch(), internal, external, granted)

    return react


def pcp(
    *,
    epoch: Callable[[], int] = lambda: 1000,
    result: int = 0,
    lifetime: int | None = None,
    external: ipaddress.IPv4Address = EXTERNAL,
) -> React:
    """A gateway that speaks PCP."""

    def react(request: bytes) -> Iterable[bytes]:
        if request[0] != 2:
            return
        _, opcode, _, asked = struct.unpack(">BBHI", request[:8])
        granted = asked if lifetime is None else min(asked, lifetime)
        header = struct.pack(">BBBBII12x", 2, 128 | opcode, 0, result, granted, epoch())
        data = bytearray(request[24:])
        if opcode == 1:
            data[20:36] = bytes(10) + b"\xff\xff" + external.packed
        yield header + bytes(data)

    return react


def run(scenario: Coroutine[Any, Any, None], patience_s: float = 20.0) -> None:
    asyncio.run(asyncio.wait_for(scenario, patience_s))
