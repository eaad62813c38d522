"""NAT Port Mapping Protocol, the client's side (RFC 6886). Integers are big-endian."""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from wh.nat.port_mapping import Granted
from wh.net.mapping.client import SUCCESS, UNSUPPORTED_VERSION, MappingClient, grant, refusal
from wh.net.mapping.gateway import BadReply
from wh.wire.address import Address, pack, port_of

VERSION = 0
OPCODES = {"udp": 1, "tcp": 2}
OPCODE_EXTERNAL_ADDRESS = 0
RESPONSE = 128
REPLY_LEN_MAX = 1100

_HEADER = struct.Struct(">BBHI")  # version, 128 + opcode, result, seconds since start of epoch
_REQUEST = struct.Struct(">BBHHHI")
_MAPPING = struct.Struct(">HHI")

RESULTS = {
    UNSUPPORTED_VERSION: "unsupported version",
    2: "not authorized",
    3: "network failure",
    4: "out of resources",
    5: "unsupported opcode",
}


class Mapped(NamedTuple):
    internal_port: int
    external_port: int
    lifetime_s: int


class NatPmpReply(NamedTuple):
    """mapped, external_address: of a success of their opcode. epoch: seconds since the gateway's tables are
    as they are."""

    opcode: int
    result: int
    epoch: int
    mapped: Mapped | None = None
    external_address: ipaddress.IPv4Address | None = None


def encode_external_address_request() -> bytes:
    return bytes((VERSION, OPCODE_EXTERNAL_ADDRESS))


def encode_map_request(transport: str, internal_port: int, external_port: int, lifetime_s: int) -> bytes:
    """12 bytes. lifetime_s 0, with external_port 0: end the mapping."""
    return _REQUEST.pack(VERSION, OPCODES[transport], 0, internal_port, external_port, lifetime_s)


def decode_reply_untrusted(data: bytes) -> NatPmpReply:
    """Raises BadReply. Bytes after those of its opcode are ignored."""
    if not _HEADER.size <= len(data) <= REPLY_LEN_MAX:
        raise BadReply("length")
    version, opcode, result, epoch = _HEADER.unpack_from(data)
    if version != VERSION or opcode < RESPONSE:
        raise BadReply("not a reply of version 0")
    opcode -= RESPONSE
    rest = data[_HEADER.size :]
    if result != SUCCESS:
        return NatPmpReply(opcode, result, epoch)
    if opcode == OPCODE_EXTERNAL_ADDRESS and len(rest) >= 4:
        return NatPmpReply(opcode, result, epoch, external_address=ipaddress.IPv4Address(rest[:4]))
    if opcode in OPCODES.values() and len(rest) >= _MAPPING.size:
        return NatPmpReply(opcode, result, epoch, mapped=Mapped(*_MAPPING.unpack_from(rest)))
    raise BadReply("opcode, or too short for it")


class NatPmpClient(MappingClient):
    @staticmethod
    def was_reset(theirs_s: float, ours_s: float) -> bool:
        """RFC 6886 3.6: a gateway's clock may run at 7/8 of the right speed, and be late by 2 s."""
        return theirs_s + 2 < ours_s * 7 / 8

    async def map(self, transport: str, internal_port: int, suggested: Address, lifetime_s: int) -> Granted:
        """A renewal too, where it exists."""
        request = encode_map_request(transport, internal_port, port_of(suggested), lifetime_s)
        reply = await self._ask(request, OPCODES[transport], internal_port)
        assert reply.mapped is not None
        external = await self._external_address()
        return grant(pack(external, reply.mapped.external_port), reply.mapped.lifetime_s)

    async def unmap(self, transport: str, internal_port: int, external: Address) -> None:
        await self._ask(encode_map_request(transport, internal_port, 0, 0), OPCODES[transport], internal_port)

    async def check(self) -> None:
        """Have the gateway show its epoch."""
        await self._external_address()

    async def _external_address(self) -> ipaddress.IPv4Address:
        reply = await self._ask(encode_external_address_request(), OPCODE_EXTERNAL_ADDRESS)
        assert reply.external_address is not None
        return reply.external_address

    async def _ask(self, request: bytes, opcode: int, internal_port: int = 0) -> NatPmpReply:
        def parse(data: bytes) -> NatPmpReply | None:
            reply = decode_reply_untrusted(data)
            if reply.opcode != opcode:
                return None
            if reply.result != SUCCESS:
                raise refusal(reply.result, RESULTS)
            return None if reply.mapped and reply.mapped.internal_port != internal_port else reply

        return await self._exchange(request, parse)
