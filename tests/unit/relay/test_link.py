"""A relay in use: ends of channels, silence, restarts, another address."""

from __future__ import annotations

from client_of_relays import (
    PEER,
    STRANGER,
    FakeServer,
    Scene,
    relay_address,
    relay_key,
)

from wh.engine.commands import AdmitChannel, DismissChannel
from wh.engine.events import LocalAddresses, Path
from wh.relay.link import PROBE_IN_USE_S
from wh.wire.address import pack
from wh.wire.messages import (
    Close,
    CloseReason,
    Open,
    Ping,
    RelayStatus,
    Reserve,
)


def test_a_channel_that_the_relay_ends_is_gone(scene: Scene) -> None:
    scene.open(0)
    (channel,) = scene.opened()
    commands = scene.hear(relay_key(0), Close(0, channel.path.channel, CloseReason.GONE))
    assert DismissChannel(channel.path) in commands
    assert ("closed", PEER, channel.path) in scene.events
    assert scene.client.channels_to(PEER) == []


def test_nobody_else_ends_it(scene: Scene) -> None:
    scene.open(0)
    (channel,) = scene.opened()
    scene.hear(relay_key(1), Close(0, channel.path.channel))
    scene.servers[STRANGER] = FakeServer(pack("20.77.0.1", 1))
    scene.hear(STRANGER, Close(0, channel.path.channel))
    assert scene.client.channels_to(PEER) == [channel]


def test_a_channel_that_we_close_is_told_to_the_relay_and_not_to_us(scene: Scene) -> None:
    scene.open(0)
    (channel,) = scene.opened()
    commands = scene.do(lambda now: scene.client.close(channel.path, now))
    assert scene.server(0).heard[-1] == Close(0, channel.path.channel, CloseReason.DONE)
    assert DismissChannel(channel.path) in commands
    assert not any(event[0] == "closed" for event in scene.events)


def test_a_relay_where_nothing_is_left_is_not_probed_any_more() -> None:
    scene = Scene(relays=0)
    scene.servers[relay_key(7)] = server = FakeServer(relay_address(7))
    scene.open(7)
    (channel,) = scene.opened()
    scene.do(lambda now: scene.client.close(channel.path, now))
    heard = len(server.heard)
    scene.wait(100)
    assert len(server.heard) == heard


def test_relays_in_use_are_probed_every_two_seconds(scene: Scene) -> None:
    scene.open(0)
    scene.do(lambda now: scene.client.wanted(PEER, True, now))
    used, idle = scene.server(0).asked(Ping), scene.server(1).asked(Ping)
    scene.wait(100)
    assert scene.server(0).asked(Ping) - used in range(45, 51)
    assert scene.server(1).asked(Ping) - idle < 10
    scene.do(lambda now: scene.client.wanted(PEER, False, now))
    used = scene.server(0).asked(Ping)
    scene.wait(100)
    assert scene.server(0).asked(Ping) - used < 10


def test_a_relay_in_use_that_dies_takes_its_channels_along_soon(scene: Scene) -> None:
    scene.open(0)
    scene.do(lambda now: scene.client.wanted(PEER, True, now))
    (channel,) = scene.opened()
    scene.wait(5)
    scene.server(0).silent = True
    scene.wait(PROBE_IN_USE_S + 1.6)
    assert ("closed", PEER, channel.path) in scene.events
    assert DismissChannel(channel.path) in [command for _, command in scene.log]


def test_a_check_tells_the_relay_at_once_where_we_are(scene: Scene) -> None:
    reserves = scene.server(0).asked(Reserve)
    scene.do(lambda now: scene.client.check(relay_key(0), now))
    assert scene.server(0).asked(Reserve) == reserves + 1
    scene.servers[relay_key(7)] = server = FakeServer(relay_address(7))
    scene.open(7)
    opens = server.asked(Open)
    scene.do(lambda now: scene.client.check(relay_key(7), now))
    assert server.asked(Open) == opens + 1
    assert len(scene.opened()) == 1
    scene.do(lambda now: scene.client.check(STRANGER, now))


def test_a_relay_that_restarted_gets_everything_anew(scene: Scene) -> None:
    """It has forgotten the session, the reservation and the channel."""
    scene.open(0)
    (before,) = scene.opened()
    server = scene.server(0)
    server.legs.clear()
    reserves = server.asked(Reserve)
    scene.engine.peers.obtain(relay_key(0)).session_lost()
    scene.wait(20)
    assert server.asked(Reserve) == reserves + 1
    _, after = scene.opened()
    assert after.path.channel == server.legs[PEER] != before.path.channel
    assert ("closed", PEER, before.path) in scene.events


def test_a_new_session_with_a_relay_that_forgot_nothing_changes_nothing(scene: Scene) -> None:
    scene.open(0)
    scene.events.clear()
    scene.engine.peers.obtain(relay_key(0)).session_lost()
    scene.wait(20)
    assert not any(event[0] in ("opened", "closed") for event in scene.events)


def test_a_restarted_relay_that_does_not_know_the_peer_ends_its_channel(scene: Scene) -> None:
    scene.offer(0)
    scene.server(0).open_status = RelayStatus.UNKNOWN
    scene.engine.peers.obtain(relay_key(0)).session_lost()
    scene.wait(20)
    assert ("closed", PEER, Path(0, relay_address(0), 77)) in scene.events


def test_channels_follow_when_another_socket_leads_to_the_relay(scene: Scene) -> None:
    scene.open(0)
    (before,) = scene.opened()
    scene.engine.addressing.set_local(LocalAddresses(((5, 4),), (pack("192.0.2.200", 62096),)))
    commands = scene.do(scene.client.local_changed)
    after = before.at(Path(5, relay_address(0)))
    assert after.path == Path(5, relay_address(0), before.path.channel)
    assert DismissChannel(before.path) in commands
    assert AdmitChannel(after.path) in commands
    assert scene.client.channels_to(PEER) == [after]
    events = [event for event in scene.events if event[0] != "changed"]
    assert events[-2:] == [("closed", PEER, before.path), ("opened", after)]
    assert len(scene.held()) == 3
