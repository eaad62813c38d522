"""Port Control Protocol, the client's side: MAP and ANNOUNCE (RFC 6887). Integers are big-endian."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from wh.config.model import IPAddress
from wh.nat.port_mapping import Granted
from wh.net.links.rtnetlink import Gateway
from wh.net.mapping.client import PORT, SUCCESS, UNSUPPORTED_VERSION, MappingClient, grant, refusal
from wh.net.mapping.gateway import BadReply
from wh.wire.address import Address, pack

VERSION = 2
NAT_PMP_VERSION = 0
OPCODE_ANNOUNCE = 0
OPCODE_MAP = 1
RESPONSE = 0x80
PROTOCOLS = {"udp": 17, "tcp": 6}
NONCE_LEN = 12
DATAGRAM_LEN_MAX = 1100

_REQUEST = struct.Struct(">BBHI16s")  # version, opcode, reserved, lifetime, the client's address
_REPLY = struct.Struct(">BBBBII12x")  # version, 128 + opcode, reserved, result, lifetime, epoch
_NAT_PMP_REPLY = struct.Struct(">BBHI")
_MAP = struct.Struct(">12sB3xHH16s")  # nonce, protocol, internal port, external port and address

RESULTS = {
    UNSUPPORTED_VERSION: "unsupported version",
    2: "not authorized",
    3: "malformed request",
    4: "unsupported opcode",
    5: "unsupported option",
    6: "malformed option",
    7: "network failure",
    8: "no resources",
    9: "unsupported protocol",
    10: "quota exceeded",
    11: "cannot provide the external address",
    12: "address mismatch: a NAT between us and the gateway",
    13: "excessive remote peers",
}
"""RFC 6887 7.4."""


class Mapping(NamedTuple):
    """The data of MAP, the same in both directions. protocol: an IP protocol number."""

    nonce: bytes
    protocol: int
    internal_port: int
    external: Address


class PcpReply(NamedTuple):
    """lifetime_s: of the mapping, or of the error. epoch: as in NAT-PMP. mapping: of MAP."""

    opcode: int
    result: int
    lifetime_s: int
    epoch: int
    mapping: Mapping | None = None


def encode_announce_request(client: IPAddress) -> bytes:
    """24 bytes. client: the address that the datagram is sent from."""
    return _REQUEST.pack(VERSION, OPCODE_ANNOUNCE, 0, 0, pack(client, 0)[:16])


def encode_map_request(client: IPAddress, mapping: Mapping, lifetime_s: int) -> bytes:
    """60 bytes. lifetime_s 0: end the mapping."""
    header = _REQUEST.pack(VERSION, OPCODE_MAP, 0, lifetime_s, pack(client, 0)[:16])
    nonce, protocol, internal_port, external = mapping
    external_port = int.from_bytes(external[16:], "big")
    return header + _MAP.pack(nonce, protocol, internal_port, external_port, external[:16])


def decode_reply_untrusted(data: bytes) -> PcpReply:
    """Raises BadReply. Options are ignored; so is what follows the header where the result is an error, but
    for MAP's data. What a gateway that only speaks NAT-PMP answers (RFC 6887 appendix A) is a refusal."""
    if data[:1] == bytes((NAT_PMP_VERSION,)):
        return _decode_nat_pmp_refusal_untrusted(data)
    if not _REPLY.size <= len(data) <= DATAGRAM_LEN_MAX or len(data) % 4:
        raise BadReply("length")
    version, opcode, _, result, lifetime_s, epoch = _REPLY.unpack_from(data)
    if not opcode & RESPONSE or (version != VERSION and result != UNSUPPORTED_VERSION):
        raise BadReply("not a reply of version 2")
    opcode &= ~RESPONSE
    mapping = None
    if opcode == OPCODE_MAP and version == VERSION:
        if len(data) < _REPLY.size + _MAP.size:
            raise BadReply("too short for MAP")
        nonce, protocol, internal_port, external_port, external = _MAP.unpack_from(data, _REPLY.size)
        mapping = Mapping(nonce, protocol, internal_port, external + external_port.to_bytes(2, "big"))
    return PcpReply(opcode, result, lifetime_s, epoch, mapping)


def _decode_nat_pmp_refusal_untrusted(data: bytes) -> PcpReply:
    if len(data) < _NAT_PMP_REPLY.size:
        raise BadReply("length")
    _, opcode, result, epoch = _NAT_PMP_REPLY.unpack_from(data)
    if not opcode & RESPONSE or result != UNSUPPORTED_VERSION:
        raise BadReply("not a refusal of our version")
    return PcpReply(opcode & ~RESPONSE, result, 0, epoch)


class PcpClient(MappingClient):
    """A mapping has the same nonce for as long as seed is the same: who does not know it can neither renew
    nor end the mapping."""

    def __init__(
        self,
        gateway: Gateway,
        on_state_lost: Callable[[], None],
        seed: bytes,
        *,
        port: int = PORT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(gateway, on_state_lost, port=port, clock=clock)
        self._seed = seed

    @staticmethod
    def was_reset(theirs_s: float, ours_s: float) -> bool:
        """RFC 6887 8.5: a gateway's clock must not go back, and may run 1/16 faster or slower than ours, but
        for 2 s."""
        if theirs_s < -1:
            return True
        return ours_s + 2 < theirs_s - theirs_s / 16 or theirs_s + 2 < ours_s - ours_s / 16

    async def map(self, transport: str, internal_port: int, suggested: Address, lifetime_s: int) -> Granted:
        """A renewal too, where it exists."""
        reply = await self._map(transport, internal_port, suggested, lifetime_s)
        assert reply.mapping is not None
        return grant(reply.mapping.external, reply.lifetime_s)

    async def unmap(self, transport: str, internal_port: int, external: Address) -> None:
        await self._map(transport, internal_port, external, 0)

    async def check(self) -> None:
        """Have the gateway show its epoch."""
        await self._ask(encode_announce_request(self._gateway.source), OPCODE_ANNOUNCE, None)

    async def _map(self, transport: str, internal_port: int, external: Address, lifetime_s: int) -> PcpReply:
        nonce = self._nonce(transport, internal_port)
        mapping = Mapping(nonce, PROTOCOLS[transport], internal_port, external)
        request = encode_map_request(self._gateway.source, mapping, lifetime_s)
        return await self._ask(request, OPCODE_MAP, mapping)

    def _nonce(self, transport: str, internal_port: int) -> bytes:
        what = f"{self._gateway.address} {self._gateway.source} {transport} {internal_port}"
        return blake2b(what.encode(), key=self._seed, digest_size=NONCE_LEN).digest()

    async def _ask(self, request: bytes, opcode: int, asked: Mapping | None) -> PcpReply:
        def parse(data: bytes) -> PcpReply | None:
            reply = decode_reply_untrusted(data)
            if reply.opcode != opcode:
                return None
            if reply.result != UNSUPPORTED_VERSION and asked is not None and not _answers(reply, asked):
                return None
            if reply.result != SUCCESS:
                raise refusal(reply.result, RESULTS, reply.lifetime_s)
            return reply

        return await self._exchange(request, parse)


def _answers(reply: PcpReply, asked: Mapping) -> bool:
    return reply.mapping is not None and reply.mapping[:3] == asked[:3]
