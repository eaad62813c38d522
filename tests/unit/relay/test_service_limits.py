"""What a relay does at its limits: who makes room for whom, and who gets no answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine_parts import at, received
from relaying_node import (
    MEMBERS,
    PATH_A,
    PATH_B,
    PATH_C,
    A,
    B,
    C,
    Relay,
    closed,
    network_path,
    replies,
    stranger,
)

from wh.relay import tables as server
from wh.relay.admission import NETWORK_BURST, REQUESTS_BURST
from wh.relay.tables import (
    CHANNELS_OF_OPENER,
    UNAGREED_OF_TARGET,
    UNAGREED_PATIENCE_S,
)
from wh.wire.messages import (
    Close,
    CloseReason,
    Open,
    Opened,
    RelayStatus,
    Reserve,
)


def test_a_stranger_opens_four_channels(relay: Relay) -> None:
    for number in range(CHANNELS_OF_OPENER + 1):
        relay.reserve(stranger(10 + number), network_path(10 + number))
    statuses = [
        relay.open(A, PATH_A, stranger(10 + number))[0].status for number in range(CHANNELS_OF_OPENER + 1)
    ]
    assert statuses == [RelayStatus.OK] * CHANNELS_OF_OPENER + [RelayStatus.FULL]


def test_a_batch_of_opens_gets_no_more_than_one_after_the_other(relay: Relay) -> None:
    relay.be(A, PATH_A)
    for number in range(10):
        relay.reserve(stranger(10 + number), network_path(10 + number))
    for number in range(10):
        relay.service.handle(received(Open(6, stranger(10 + number)), PATH_A, peer=A), at(0))
    answers = [reply.status for reply in replies(relay.settle()) if isinstance(reply, Opened)]
    assert answers.count(RelayStatus.OK) == CHANNELS_OF_OPENER


def test_sixteen_channels_wait_for_a_target(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    for number in range(UNAGREED_OF_TARGET):
        relay.channel(stranger(10 + number), network_path(10 + number), B)
    late, path = stranger(99), network_path(99)
    assert relay.open(late, path, B)[0].status == RelayStatus.FULL
    relay.agree(B, PATH_B, stranger(13))
    assert relay.open(late, path, B)[0].status == RelayStatus.OK


def test_a_channel_that_waits_too_long_makes_room(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    for number in range(UNAGREED_OF_TARGET):
        relay.channel(stranger(10 + number), network_path(10 + number), B)
    relay.wait(UNAGREED_PATIENCE_S)
    reply, commands = relay.open(A, PATH_A, B)
    assert reply.status == RelayStatus.OK
    assert closed(commands).keys() == {stranger(10), B}


def test_channels_that_wait_from_one_network_make_room_for_another(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    for number in range(UNAGREED_OF_TARGET):
        relay.channel(stranger(10 + number), network_path(7, port=number + 1), B)
    reply, commands = relay.open(A, PATH_A, B)
    assert reply.status == RelayStatus.OK
    assert closed(commands)[stranger(10)].reason == CloseReason.CROWDED
    assert relay.open(stranger(99), network_path(7), B)[0].status == RelayStatus.FULL


def test_channels_of_one_network_make_room_for_another(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CHANNELS_OF_STRANGERS", 8)
    for number in range(8):
        relay.reserve(stranger(20 + number), network_path(20 + number))
        relay.channel(stranger(10 + number), network_path(7, port=number + 1), stranger(20 + number))
    for number in range(3):
        relay.agree(stranger(20 + number), network_path(20 + number), stranger(10 + number))
    relay.reserve(B, PATH_B)
    reply, commands = relay.open(A, PATH_A, B)
    assert reply.status == RelayStatus.OK
    assert closed(commands).keys() == {stranger(17), stranger(27)}  # the youngest that nobody agreed to
    assert relay.open(stranger(99), network_path(7), B)[0].status == RelayStatus.FULL


def test_strangers_leave_room_for_the_channels_of_members(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CHANNELS_OF_STRANGERS", 3)
    for target in (B, MEMBERS[1]):
        relay.reserve(target, PATH_B)
    legs = [relay.channel(stranger(10 + number), network_path(10 + number), B) for number in range(3)]
    late, path = stranger(99), network_path(99)
    assert relay.open(late, path, B)[0].status == RelayStatus.FULL
    assert relay.open(MEMBERS[0], PATH_A, MEMBERS[1])[0].status == RelayStatus.OK
    relay.hear(stranger(10), Close(0, legs[0][0]), network_path(10))
    assert relay.open(late, path, B)[0].status == RelayStatus.OK


def test_a_flood_of_requests_is_answered_to_its_burst_only(relay: Relay) -> None:
    relay.be(A, PATH_A)
    answers = [reply for _ in range(1000) for reply in replies(relay.hear(A, Open(6, B), PATH_A))]
    assert len(answers) == REQUESTS_BURST


def test_keys_of_one_network_share_what_is_answered(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    answers = []
    for number in range(200):
        opener, path = stranger(10 + number), network_path(7, port=number + 1)
        relay.be(opener, path)
        answers += replies(relay.hear(opener, Open(6, B), path))
    assert len(answers) == NETWORK_BURST
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.OK


def test_the_bars_of_one_target_push_out_none_of_another(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    relay.hear(B, Close(0, relay.channel(A, PATH_A, B)[1], CloseReason.UNWANTED), PATH_B)
    relay.reserve(C, PATH_C)
    for number in range(5000):
        relay.service._tables.bar(C, stranger(number), relay.now)
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.BARRED


def test_strangers_in_any_order_never_exceed_a_limit() -> None:
    """Random requests of 60 keys at a few addresses, checked against the tables after each."""
    relay = Relay()
    for seconds, key, target in _random_requests(relay):
        relay.wait(seconds)
        path = network_path(key % 20, port=1000 + key)
        relay.be(stranger(key), path)
        if target is None:
            relay.hear(stranger(key), Reserve(5, 3600), path)
        else:
            relay.hear(stranger(key), Open(6, stranger(target)), path)
        _check(relay)


def _random_requests(relay: Relay) -> Iterator[tuple[float, int, int | None]]:
    rng = relay.engine.rng
    for _ in range(1500):
        number = int(60 * rng.random())
        yield 0.1 * rng.random(), number, None if rng.random() < 0.4 else int(60 * rng.random())


def _check(relay: Relay) -> None:
    tables = relay.service._tables
    for client in tables.clients():
        channels = tables.channels_of(client)
        assert sum(each.opener == client for each in channels) <= CHANNELS_OF_OPENER
        assert sum(each.target == client for each in channels) <= UNAGREED_OF_TARGET
        assert len({each.other(client) for each in channels}) == len(channels)
