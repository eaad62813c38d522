"""NAT-PMP: datagrams as in RFC 6886, and gateways that lie, hang or send without end."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable

import pytest
from fake_gateway import EXTERNAL, GATEWAY, natpmp, run, serving, silent
from fake_gateway import NATPMP_ADDRESS_REPLY as ADDRESS_REPLY
from fake_gateway import NATPMP_MAP_REPLY as MAP_REPLY

from wh.nat.port_mapping import Granted
from wh.net.mapping.gateway import GatewaySilent, Refused, VersionRefused
from wh.net.mapping.natpmp import (
    Mapped,
    NatPmpClient,
    NatPmpReply,
    decode_reply_untrusted,
    encode_external_address_request,
    encode_map_request,
)
from wh.wire.address import pack

ANY = pack("0.0.0.0", 14000)  # noqa: S104
MAPPED = pack(EXTERNAL, 14000)


def test_requests_are_those_of_the_rfc() -> None:
    assert encode_external_address_request() == bytes.fromhex("0000")
    assert encode_map_request("udp", 4000, 14000, 7200) == bytes.fromhex("00010000 0fa036b0 00001c20")
    assert encode_map_request("tcp", 4000, 0, 0) == bytes.fromhex("00020000 0fa00000 00000000")


def test_replies_are_those_of_the_rfc() -> None:
    address = ipaddress.IPv4Address("192.0.2.1")
    assert decode_reply_untrusted(ADDRESS_REPLY) == NatPmpReply(0, 0, 1000, external_address=address)
    assert decode_reply_untrusted(MAP_REPLY) == NatPmpReply(1, 0, 1000, Mapped(4000, 14000, 7200))
    assert decode_reply_untrusted(bytes.fromhex("00820002 00000001")) == NatPmpReply(2, 2, 1)
    assert decode_reply_untrusted(MAP_REPLY + b"more") == decode_reply_untrusted(MAP_REPLY)


def client(port: int) -> NatPmpClient:
    return NatPmpClient(GATEWAY, lambda: None, port=port)


def test_a_mapping_is_made_renewed_and_ended() -> None:
    async def scenario() -> None:
        async with serving(natpmp(lifetime=600)) as gateway:
            asking = client(gateway.port)
            assert await asking.map("udp", 4000, ANY, 7200) == Granted(MAPPED, 600)
            assert await asking.map("udp", 4000, MAPPED, 7200) == Granted(MAPPED, 600)
            await asking.unmap("udp", 4000, MAPPED)
            assert gateway.requests[-1] == encode_map_request("udp", 4000, 0, 0)

    run(scenario())


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [
        (1, VersionRefused, "unsupported version"),
        (2, Refused, "not authorized"),
        (4, Refused, "out of resources"),
        (77, Refused, "result 77"),
    ],
)
def test_a_refusal_says_why(result: int, error: type[Refused], text: str) -> None:
    async def scenario() -> None:
        async with serving(natpmp(result=result)) as gateway:
            with pytest.raises(error, match=text):
                await client(gateway.port).map("udp", 4000, ANY, 7200)

    run(scenario())


def no_address(request: bytes) -> Iterable[bytes]:
    """Grants a mapping, at an address that is none."""
    if request[1] == 0:
        yield struct.pack(">BBHI4s", 0, 128, 0, 1000, bytes(4))
    else:
        yield from natpmp()(request)


def garbage(request: bytes) -> Iterable[bytes]:
    """Endless replies to somebody else's questions, as far as a socket takes them."""
    yield from (struct.pack(">BBHIHHI", 0, 129, 0, 1000, 9, 9, 9) for _ in range(1000))


def test_a_mapping_at_no_address_is_none() -> None:
    async def scenario() -> None:
        async with serving(no_address) as gateway:
            with pytest.raises(Refused):
                await client(gateway.port).map("udp", 4000, ANY, 7200)

    run(scenario())


def test_endless_replies_that_answer_nothing_end_the_question() -> None:
    async def scenario() -> None:
        async with serving(garbage) as gateway:
            with pytest.raises(GatewaySilent, match="no answer"):
                await client(gateway.port).map("udp", 4000, ANY, 7200)

    run(scenario())


def test_a_silent_gateway_is_asked_three_times_and_a_closed_port_once() -> None:
    async def scenario() -> None:
        async with serving(silent) as gateway:
            with pytest.raises(GatewaySilent):
                await client(gateway.port).check()
            assert len(gateway.requests) == 3
        with pytest.raises(GatewaySilent, match="nothing on that port"):
            await client(gateway.port).check()

    run(scenario())
