"""NAT-PMP: datagrams as in RFC 6886, and gateways that lie, hang or send without end."""

from __future__ import annotations

import ipaddress
import itertools
import struct
from collections.abc import Iterable

import pytest
from fake_gateway import EXTERNAL, GATEWAY, natpmp, run, serving, silent
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.nat.port_mapping import Granted
from wh.net.gateway import BadReply, GatewaySilent, Refused, VersionRefused
from wh.net.natpmp import (
    Epoch,
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
ADDRESS_REPLY = bytes.fromhex("00800000 000003e8 c0000201")
MAP_REPLY = bytes.fromhex("00810000 000003e8 0fa036b0 00001c20")


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


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        MAP_REPLY[:15],
        ADDRESS_REPLY[:11],
        b"\x01" + MAP_REPLY[1:],  # another version
        b"\0\x01" + MAP_REPLY[2:],  # a request
        b"\0\x83" + MAP_REPLY[2:],  # no such opcode
        MAP_REPLY + bytes(2000),
    ],
)
def test_what_is_no_reply_is_refused(reply: bytes) -> None:
    with pytest.raises(BadReply):
        decode_reply_untrusted(reply)


@settings(derandomize=True, max_examples=500)
@given(st.binary(max_size=64) | st.binary(max_size=20).map(lambda tail: b"\0\x81" + tail))
def test_hostile_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        reply = decode_reply_untrusted(data)
    except BadReply:
        return
    assert 0 <= reply.opcode < 128


@pytest.mark.parametrize(
    ("readings", "lost"),
    [
        ([(100, 0.0)], False),
        ([(100, 0.0), (160, 60.0)], False),
        ([(100, 0.0), (151, 60.0)], False),  # 7/8 of the right speed, and 2 s
        ([(100, 0.0), (150, 60.0)], True),
        ([(100, 0.0), (0, 60.0)], True),
        ([(100, 0.0), (99, 0.5)], False),
        ([(100, 0.0), (100_000, 60.0)], False),  # an epoch may jump ahead: only a reset loses anything
        ([(100, 0.0), (0, 60.0), (60, 120.0)], False),
    ],
)
def test_the_epoch_tells_of_a_restart(readings: list[tuple[int, float]], lost: bool) -> None:
    epoch = Epoch()
    assert [epoch.lost(*reading) for reading in readings][-1] is lost


def client(port: int, lost: list[None], clock: Iterable[float] = itertools.repeat(0.0)) -> NatPmpClient:
    times = iter(clock)
    return NatPmpClient(GATEWAY, lambda: lost.append(None), port=port, clock=lambda: next(times))


def test_a_mapping_is_made_renewed_and_ended() -> None:
    async def scenario() -> None:
        async with serving(natpmp(lifetime=600)) as gateway:
            asking = client(gateway.port, [])
            assert await asking.map("udp", 4000, ANY, 7200) == Granted(MAPPED, 600)
            assert await asking.map("udp", 4000, MAPPED, 7200) == Granted(MAPPED, 600)
            await asking.unmap("udp", 4000, MAPPED)
            assert gateway.requests[-1] == encode_map_request("udp", 4000, 0, 0)

    run(scenario())


def test_an_epoch_that_went_back_is_told_before_the_call_returns() -> None:
    epochs = iter([5000, 5000, 3])

    async def scenario() -> None:
        lost: list[None] = []
        async with serving(natpmp(epoch=lambda: next(epochs))) as gateway:
            asking = client(gateway.port, lost, [0.0, 0.0, 60.0])
            await asking.map("udp", 4000, ANY, 7200)
            assert lost == []
            await asking.check()
            assert lost == [None]

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
                await client(gateway.port, []).map("udp", 4000, ANY, 7200)

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
                await client(gateway.port, []).map("udp", 4000, ANY, 7200)

    run(scenario())


def test_endless_replies_that_answer_nothing_end_the_question() -> None:
    async def scenario() -> None:
        async with serving(garbage) as gateway:
            with pytest.raises(GatewaySilent, match="no answer"):
                await client(gateway.port, []).map("udp", 4000, ANY, 7200)

    run(scenario())


def test_a_silent_gateway_is_asked_three_times_and_a_closed_port_once() -> None:
    async def scenario() -> None:
        async with serving(silent) as gateway:
            with pytest.raises(GatewaySilent):
                await client(gateway.port, []).check()
            assert len(gateway.requests) == 3
        with pytest.raises(GatewaySilent, match="nothing on that port"):
            await client(gateway.port, []).check()

    run(scenario())
