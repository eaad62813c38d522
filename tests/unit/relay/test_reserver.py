"""Channels that a client opens at the relays of its peers."""

from __future__ import annotations

import pytest
from client_of_relays import (
    OTHER_PEER,
    PEER,
    SEEN_AT,
    FakeServer,
    Scene,
    relay_address,
    relay_key,
)
from engine_parts import OWN_KEY, at

from wh.engine.commands import AdmitChannel
from wh.engine.events import Path
from wh.relay.choosing import Channel
from wh.relay.reserver import (
    BARRED_S,
    OPEN_AGAIN_S,
)
from wh.wire.address import pack
from wh.wire.messages import (
    Close,
    CloseReason,
    Open,
    Opened,
    Ping,
    RelayStatus,
)
from wh.wire.records import Relay


def test_a_channel_is_opened_at_the_nearest_relay_of_the_peer(scene: Scene) -> None:
    scene.open(4, 1, 3)
    (channel,) = scene.opened()
    leg = scene.server(1).legs[PEER]
    assert channel == Channel(Path(0, relay_address(1), leg), relay_key(1), PEER, SEEN_AT, True)
    assert scene.client.channels_to(PEER) == [channel]
    assert AdmitChannel(channel.path) in [command for _, command in scene.log]


def test_what_counts_is_the_whole_way() -> None:
    scene = Scene(relays=5)
    scene.wait(1)
    relays = [Relay(relay_key(0), relay_address(0), 300), Relay(relay_key(4), relay_address(4), 5)]
    scene.do(lambda now: scene.client.open(PEER, relays, now))
    assert [channel.relay for channel in scene.opened()] == [relay_key(4)]


def test_the_second_channel_is_at_another_relay(scene: Scene) -> None:
    scene.open(0, 1)
    scene.open(0, 1)
    scene.open(0, 1)
    scene.wait(1)
    assert [channel.relay for channel in scene.opened()] == [relay_key(0), relay_key(1)]
    assert scene.events[-1] == ("failed", PEER)


def test_a_relay_that_we_have_no_session_with_gets_a_ping_first() -> None:
    scene = Scene(relays=0)
    scene.servers[relay_key(7)] = server = FakeServer(relay_address(7))
    scene.open(7)
    assert [type(message) for message in server.heard][:2] == [Ping, Open]
    assert len(scene.opened()) == 1


def test_a_relay_is_reached_where_we_know_it_if_not_where_the_peer_does(scene: Scene) -> None:
    """The peer may have IPv6, which gets us nowhere."""
    relay = Relay(relay_key(4), pack("2001:db8::4", 62096), 10)
    scene.do(lambda now: scene.client.open(PEER, [relay], now))
    (channel,) = scene.opened()
    assert channel.path[:2] == (0, relay_address(4))


def test_a_session_that_lives_on_another_address_shows_where_the_relay_is() -> None:
    scene = Scene(relays=0)
    key, path = relay_key(7), Path(0, relay_address(7))
    scene.servers[key] = FakeServer(relay_address(7))
    known = scene.engine.peers.obtain(key)
    known.session = True
    known.validate(path, at(0))
    scene.do(lambda now: scene.client.open(PEER, [Relay(key, pack("20.200.0.1", 9))], now))
    (channel,) = scene.opened()
    assert channel.path[:2] == path[:2]


def test_a_refusing_relay_is_passed_over_for_the_next(scene: Scene) -> None:
    scene.server(0).open_status = RelayStatus.UNKNOWN
    scene.open(0, 1)
    assert [channel.relay for channel in scene.opened()] == [relay_key(1)]
    assert ("failed", PEER) not in scene.events


def test_a_silent_relay_is_passed_over_for_the_next() -> None:
    scene = Scene(relays=0)
    for number in (7, 8):
        scene.servers[relay_key(number)] = FakeServer(relay_address(number))
    scene.server(7).silent = True
    scene.open(7, 8)
    scene.wait(2)
    assert [channel.relay for channel in scene.opened()] == [relay_key(8)]


def test_a_refusal_is_not_asked_again_for_a_while(scene: Scene) -> None:
    server = scene.server(0)
    server.open_status = RelayStatus.UNKNOWN
    for _ in range(50):
        scene.open(0)
        scene.wait(0.1)
    assert server.asked(Open) == 1
    assert scene.events.count(("failed", PEER)) == 50
    server.open_status = RelayStatus.OK
    scene.wait(OPEN_AGAIN_S)
    scene.open(0)
    assert len(scene.opened()) == 1


@pytest.mark.parametrize("told_by", ["status", "close"])
def test_where_the_peer_does_not_want_us_we_stay_away(scene: Scene, told_by: str) -> None:
    server = scene.server(0)
    if told_by == "status":
        server.open_status = RelayStatus.BARRED
        scene.open(0)
    else:
        scene.open(0)
        scene.hear(relay_key(0), Close(0, server.legs[PEER], CloseReason.UNWANTED))
    asked = server.asked(Open)
    scene.wait(BARRED_S - 1)
    scene.open(0)
    assert server.asked(Open) == asked
    scene.wait(10)
    scene.open(0)
    assert server.asked(Open) == asked + 1


def test_two_opens_at_one_relay_are_one(scene: Scene) -> None:
    scene.server(0).silent = True
    scene.open(0)
    scene.open(0)
    assert scene.server(0).asked(Open) == 1


@pytest.mark.parametrize(
    "relay",
    [
        Relay(PEER, relay_address(0)),
        Relay(OWN_KEY, relay_address(0)),
        Relay(relay_key(50), pack("10.1.1.1", 9)),
        Relay(relay_key(50), pack("127.0.0.1", 9)),
    ],
)
def test_no_relay_is_used_that_cannot_be_one(relay: Relay) -> None:
    scene = Scene(relays=0)
    scene.do(lambda now: scene.client.open(PEER, [relay], now))
    scene.wait(1)
    assert scene.events == [("failed", PEER)]
    assert scene.send_times() == []


def test_an_answer_about_another_peer_opens_nothing(scene: Scene) -> None:
    scene.server(0).answer = lambda message: Opened(  # type: ignore[method-assign]
        message.request_id, RelayStatus.OK, 5, OTHER_PEER, SEEN_AT
    )
    scene.open(0)
    scene.wait(1)
    assert scene.opened() == []
    assert scene.events[-1] == ("failed", PEER)
