"""PCP: datagrams as in RFC 6887, and gateways that lie, hang or send without end."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import pytest
from fake_gateway import EXTERNAL, GATEWAY, natpmp, pcp, run, serving
from fake_gateway import PCP_MAP_DATA as MAP_DATA
from fake_gateway import PCP_MAP_REPLY as MAP_REPLY
from fake_gateway import PCP_NONCE as NONCE
from fake_gateway import PCP_REPLY_HEADER as REPLY_HEADER
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.nat.port_mapping import Granted
from wh.net.mapping.gateway import GatewaySilent, Refused, VersionRefused
from wh.net.mapping.pcp import (
    Mapping,
    PcpClient,
    PcpReply,
    decode_reply_untrusted,
    encode_announce_request,
    encode_map_request,
)
from wh.wire.address import pack

SEED = bytes(16)
ANY = pack("0.0.0.0", 14000)  # noqa: S104
MAPPED = pack(EXTERNAL, 14000)
CLIENT = ipaddress.IPv4Address("192.168.1.2")
MAPPING = Mapping(NONCE, 17, 4000, pack("192.0.2.1", 14000))


def test_requests_are_those_of_the_rfc() -> None:
    address = bytes.fromhex("00000000000000000000ffffc0a80102")
    assert encode_announce_request(CLIENT) == bytes.fromhex("02000000 00000000") + address
    assert encode_map_request(CLIENT, MAPPING, 7200) == (
        bytes.fromhex("02010000 00001c20") + address + MAP_DATA
    )
    v6 = ipaddress.IPv6Address("2001:db8::2")
    assert encode_announce_request(v6)[8:] == v6.packed


def test_replies_are_those_of_the_rfc() -> None:
    assert decode_reply_untrusted(MAP_REPLY) == PcpReply(1, 0, 3600, 1000, MAPPING)
    option = bytes.fromhex("02000000")  # PREFER_FAILURE, of which we know nothing
    assert decode_reply_untrusted(MAP_REPLY + option) == decode_reply_untrusted(MAP_REPLY)
    announcement = bytes.fromhex("02800000 00000000 00000007 000000000000000000000000")
    assert decode_reply_untrusted(announcement) == PcpReply(0, 0, 0, 7)


def test_a_gateway_that_speaks_only_nat_pmp_refuses_our_version() -> None:
    assert decode_reply_untrusted(bytes.fromhex("00810001 000003e8")) == PcpReply(1, 1, 0, 1000)


@settings(derandomize=True)
@given(st.binary(min_size=12, max_size=12), st.integers(0, 255), st.integers(0, 65535), st.integers(0, 65535))
def test_what_a_map_request_asks_a_reply_can_repeat(
    nonce: bytes, protocol: int, internal: int, external: int
) -> None:
    mapping = Mapping(nonce, protocol, internal, pack("192.0.2.1", external))
    data = encode_map_request(CLIENT, mapping, 60)[24:]
    assert decode_reply_untrusted(REPLY_HEADER + data).mapping == mapping


def client(port: int) -> PcpClient:
    return PcpClient(GATEWAY, lambda: None, SEED, port=port)


def test_a_mapping_is_made_renewed_and_ended_under_one_nonce() -> None:
    async def scenario() -> None:
        async with serving(pcp(lifetime=600)) as gateway:
            asking = client(gateway.port)
            assert await asking.map("udp", 4000, ANY, 7200) == Granted(MAPPED, 600)
            assert await client(gateway.port).map("udp", 4000, MAPPED, 7200) == Granted(MAPPED, 600)
            await asking.unmap("udp", 4000, MAPPED)
            await asking.map("tcp", 4000, ANY, 7200)
            nonces = [request[24:36] for request in gateway.requests]
            lifetimes = [int.from_bytes(request[4:8], "big") for request in gateway.requests]
        assert len(set(nonces[:3])) == 1
        assert nonces[3] not in nonces[:3]
        assert lifetimes == [7200, 7200, 0, 7200]

    run(scenario())


def test_a_refusal_says_why_and_for_how_long() -> None:
    async def scenario() -> None:
        async with serving(pcp(result=8, lifetime=120)) as gateway:
            with pytest.raises(Refused, match="no resources") as caught:
                await client(gateway.port).map("udp", 4000, ANY, 7200)
            assert caught.value.retry_after_s == 120
        async with serving(natpmp()) as gateway:
            with pytest.raises(VersionRefused):
                await client(gateway.port).map("udp", 4000, ANY, 7200)

    run(scenario())


@pytest.mark.parametrize("external", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])  # noqa: S104
def test_a_mapping_at_an_address_that_cannot_be_is_none(external: str) -> None:
    async def scenario() -> None:
        async with serving(pcp(external=ipaddress.IPv4Address(external))) as gateway:
            with pytest.raises(Refused):
                await client(gateway.port).map("udp", 4000, ANY, 7200)

    run(scenario())


def stranger(request: bytes) -> Iterable[bytes]:
    """Replies that somebody makes up who did not see the request: another nonce, port or protocol."""
    good = next(iter(pcp()(request)))
    for position in (24, 36, 40):
        forged = bytearray(good)
        forged[position] ^= 1
        yield bytes(forged)


def test_a_reply_without_our_nonce_port_and_protocol_is_none() -> None:
    async def scenario() -> None:
        async with serving(stranger) as gateway:
            with pytest.raises(GatewaySilent):
                await client(gateway.port).map("udp", 4000, ANY, 7200)

    run(scenario())


def test_the_real_answer_among_forged_ones_is_found() -> None:
    def react(request: bytes) -> Iterable[bytes]:
        yield b"x"
        yield from stranger(request)
        yield from pcp()(request)

    async def scenario() -> None:
        async with serving(react) as gateway:
            granted = await client(gateway.port).map("udp", 4000, ANY, 7200)
            assert granted.external == MAPPED

    run(scenario())
