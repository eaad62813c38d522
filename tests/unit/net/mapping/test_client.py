"""What NAT-PMP and PCP share: hostile bytes, and a gateway's epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_gateway import (
    GATEWAY,
    NATPMP_ADDRESS_REPLY,
    NATPMP_MAP_REPLY,
    PCP_MAP_REPLY,
    PCP_REPLY_HEADER,
    React,
    natpmp,
    pcp,
    run,
    serving,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.net.mapping.client import Epoch, MappingClient
from wh.net.mapping.gateway import BadReply
from wh.net.mapping.natpmp import NatPmpClient
from wh.net.mapping.natpmp import decode_reply_untrusted as decode_natpmp
from wh.net.mapping.pcp import PcpClient
from wh.net.mapping.pcp import decode_reply_untrusted as decode_pcp
from wh.wire.address import pack

ANY = pack("0.0.0.0", 14000)  # noqa: S104


@pytest.mark.parametrize(
    ("decode", "reply"),
    [
        (decode_natpmp, b""),
        (decode_natpmp, NATPMP_MAP_REPLY[:15]),
        (decode_natpmp, NATPMP_ADDRESS_REPLY[:11]),
        (decode_natpmp, b"\x01" + NATPMP_MAP_REPLY[1:]),  # another version
        (decode_natpmp, b"\0\x01" + NATPMP_MAP_REPLY[2:]),  # a request
        (decode_natpmp, b"\0\x83" + NATPMP_MAP_REPLY[2:]),  # no such opcode
        (decode_natpmp, NATPMP_MAP_REPLY + bytes(2000)),
        (decode_pcp, b""),
        (decode_pcp, PCP_MAP_REPLY[:-4]),  # MAP without all of its data
        (decode_pcp, PCP_MAP_REPLY[:-1]),  # no multiple of 4
        (decode_pcp, PCP_REPLY_HEADER[:20]),
        (decode_pcp, b"\x02\x01" + PCP_MAP_REPLY[2:]),  # a request
        (decode_pcp, b"\x03" + PCP_MAP_REPLY[1:]),  # another version, and no refusal of ours
        (decode_pcp, b"\x00\x81\x00\x00" + bytes(4)),  # NAT-PMP, and no refusal of our version
        (decode_pcp, b"\x00\x81\x00\x01"),
        (decode_pcp, PCP_MAP_REPLY + bytes(1100)),
    ],
)
def test_what_is_no_reply_is_refused(decode: Callable[[bytes], Any], reply: bytes) -> None:
    with pytest.raises(BadReply):
        decode(reply)


@pytest.mark.parametrize(("decode", "head"), [(decode_natpmp, b"\0\x81"), (decode_pcp, b"\x02\x81")])
@settings(derandomize=True, max_examples=500)
@given(st.booleans(), st.binary(max_size=96))
def test_hostile_bytes_raise_nothing_else(
    decode: Callable[[bytes], Any], head: bytes, begins_well: bool, data: bytes
) -> None:
    try:
        reply = decode(head + data if begins_well else data)
    except BadReply:
        return
    assert 0 <= reply.opcode < 128


@pytest.mark.parametrize(
    ("protocol", "readings", "lost"),
    [
        (NatPmpClient, [(100, 0.0)], False),
        (NatPmpClient, [(100, 0.0), (160, 60.0)], False),
        (NatPmpClient, [(100, 0.0), (151, 60.0)], False),  # 7/8 of the right speed, and 2 s
        (NatPmpClient, [(100, 0.0), (150, 60.0)], True),
        (NatPmpClient, [(100, 0.0), (0, 60.0)], True),
        (NatPmpClient, [(100, 0.0), (99, 0.5)], False),
        (NatPmpClient, [(100, 0.0), (100_000, 60.0)], False),  # a jump ahead is no reset
        (NatPmpClient, [(100, 0.0), (0, 60.0), (60, 120.0)], False),
        (PcpClient, [(100, 0.0)], False),
        (PcpClient, [(100, 0.0), (160, 60.0)], False),
        (PcpClient, [(100, 0.0), (99, 0.5)], False),
        (PcpClient, [(100, 0.0), (98, 0.0)], True),
        (PcpClient, [(100, 0.0), (155, 60.0)], False),  # 1/16 and 2 s slower
        (PcpClient, [(100, 0.0), (153, 60.0)], True),
        (PcpClient, [(100, 0.0), (165, 60.0)], False),  # 1/16 and 2 s faster
        (PcpClient, [(100, 0.0), (170, 60.0)], True),
        (PcpClient, [(100, 0.0), (0, 60.0), (60, 120.0)], False),
    ],
)
def test_the_epoch_tells_of_a_restart(
    protocol: type[MappingClient], readings: list[tuple[int, float]], lost: bool
) -> None:
    epoch = Epoch(protocol.was_reset)
    assert [epoch.lost(*reading) for reading in readings][-1] is lost


@pytest.mark.parametrize(
    ("protocol", "extra", "gateway_of"), [(NatPmpClient, (), natpmp), (PcpClient, (bytes(16),), pcp)]
)
def test_an_epoch_that_went_back_is_told_before_the_call_returns(
    protocol: Callable[..., Any], extra: tuple[bytes, ...], gateway_of: Callable[..., React]
) -> None:
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        lost: list[None] = []
        epoch = 5000
        async with serving(gateway_of(epoch=lambda: epoch)) as gateway:
            asking = protocol(
                GATEWAY, lambda: lost.append(None), *extra, port=gateway.port, clock=lambda: now
            )
            await asking.map("udp", 4000, ANY, 7200)
            epoch, now = 5060, 60.0
            await asking.check()
            assert lost == []
            epoch, now = 3, 120.0
            await asking.check()
            assert lost == [None]

    run(scenario())
