"""Two nodes behind NATs that reach each other through relays only."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relayed_pair import Pair, make_pair, start_all
from simnode import SOCKET, Datagram, SimNode, make_key
from simrelay import Leg
from wh.engine.commands import Send
from wh.engine.events import Path, PathSilent, PingRequested, Stopping
from wh.wire.address import Address
from wh.wire.messages import Close, Opened


@pytest.fixture
def pair() -> Pair:
    pair = make_pair()
    start_all(pair)
    return pair


@pytest.mark.parametrize("seed", range(8))
def test_nodes_behind_nats_hold_three_reservations_soon_after_all_start_at_once(seed: int) -> None:
    pair = make_pair(seed)
    for node in pair.nodes:
        node.start(pair.config)
    took = pair.network.run_until(pair.reserved, 40.0)
    assert took < 1
    assert not any(pair.relays_of(server) for server in pair.servers)


def test_in_a_network_with_one_server_that_is_the_relay() -> None:
    pair = make_pair(servers=1)
    for node in pair.nodes:
        node.start(pair.config)
    assert pair.network.run_until(lambda: pair.reserved(1), 20.0) < 6
    pair.network.run(2)
    pair.want()
    pair.network.run_until(pair.relayed, 5.0)


def test_both_ends_have_measured_both_channels_after_two_seconds(pair: Pair) -> None:
    pair.want()
    pair.network.run_until(pair.relayed, 5.0)
    pair.network.run(3)
    round_trip = 4 * pair.network.latency_s
    for node, peer in ((pair.a, pair.b), (pair.b, pair.a)):
        trusted = node.node.parts.trusted.get(peer.key)
        assert trusted is not None
        routes = trusted.routes
        assert len(routes.channels) == 2
        measured = [routes.round_trip_s(channel) for channel in routes.channels]
        assert measured == pytest.approx([round_trip, round_trip], rel=0.2)
        assert routes.silence_s < 2.25 * round_trip  # the simulated wires have jitter


def test_traffic_brings_up_a_channel_within_five_relayed_round_trips(pair: Pair) -> None:
    pair.network.run(5)
    pair.want()
    took = pair.network.run_until(pair.relayed, 5.0)
    assert took < 5 * 4 * pair.network.latency_s
    assert pair.passes()


def test_both_hold_two_channels_at_different_relays(pair: Pair) -> None:
    pair.network.run(5)
    pair.want()
    pair.network.run(3)
    channels = [channel for server in pair.servers for channel in server.relay.channels]
    assert len(channels) == 2
    assert len([server for server in pair.servers if server.relay.channels]) == 2
    assert all(channel.answered for channel in channels)


def test_a_relay_that_dies_is_replaced_and_traffic_goes_on(pair: Pair) -> None:
    pair.network.run(5)
    pair.want()
    pair.network.run_until(pair.relayed, 5.0)
    pair.network.run(3)
    dead = pair.relay_in_use()
    dead.stop()
    pair.network.run_until(lambda: pair.relayed() and pair.relay_in_use() is not dead and pair.passes(), 15.0)
    pair.network.run_until(
        lambda: pair.reserved() and dead.key not in pair.relays_of(pair.a) | pair.relays_of(pair.b), 60.0
    )


def test_a_relay_that_restarts_is_asked_again(pair: Pair) -> None:
    pair.network.run(5)
    pair.want()
    pair.network.run_until(pair.relayed, 5.0)
    again = pair.relay_in_use()
    again.stop()
    pair.network.run(0.1)
    again.start(pair.config)
    pair.network.run(20)
    assert pair.relayed()
    assert pair.passes()
    assert pair.reserved()


def test_a_relay_that_leaves_says_so(pair: Pair) -> None:
    pair.network.run(5)
    pair.want()
    pair.network.run_until(pair.relayed, 5.0)
    pair.network.run(2)
    left = pair.relay_in_use()
    left.handle(Stopping())
    left.stop()
    took = pair.network.run_until(lambda: pair.relayed() and pair.relay_in_use() is not left, 5.0)
    assert took < 0.2


def test_channels_and_reservations_follow_a_client_that_gets_another_mapping(pair: Pair) -> None:
    pair.network.run(5)
    pair.want()
    pair.network.run_until(pair.relayed, 5.0)
    pair.network.run(2)
    before = pair.relays_of(pair.a), pair.relays_of(pair.b)
    for nat in pair.nats:
        nat.rebind()
        took = pair.network.run_until(lambda: pair.relayed() and pair.passes(), 20.0)
        assert took < 2.6  # relays in use get a PING every 2 s
    pair.network.run(30)
    assert (pair.relays_of(pair.a), pair.relays_of(pair.b)) == before


def test_reservations_are_renewed_and_survive_a_day(pair: Pair) -> None:
    before = pair.relays_of(pair.a), pair.relays_of(pair.b)
    pair.network.run(3 * 3600)
    assert (pair.relays_of(pair.a), pair.relays_of(pair.b)) == before
    pair.want()
    pair.network.run_until(pair.relayed, 5.0)


@pytest.mark.parametrize("seed", range(4))
def test_channels_come_up_on_lossy_links(seed: int) -> None:
    pair = make_pair(seed + 10, loss=0.05)
    start_all(pair, reservations=1)
    pair.network.run(10)
    pair.want()
    pair.network.run_until(pair.relayed, 20.0)


def drop(server: SimNode) -> None:
    server.relay.forward = lambda leg, source, datagram: None  # type: ignore[method-assign]


def misroute(server: SimNode) -> None:
    """Back to where it came from."""
    honest = server.relay.forward

    def forward(leg_id: int, source: Address, datagram: object) -> Leg | None:
        if honest(leg_id, source, datagram) is None:
            return None
        legs = [leg for channel in server.relay.channels for leg in channel.legs]
        return next(leg for leg in legs if leg.id == leg_id)

    server.relay.forward = forward  # type: ignore[method-assign]


def duplicate(server: SimNode) -> None:
    honest = server._forward

    def forward(path: Path, datagram: Datagram) -> None:
        for _ in range(3):
            honest(path, datagram)

    server._forward = forward  # type: ignore[method-assign]


@pytest.mark.parametrize("mischief", [drop, misroute, duplicate])
def test_one_bad_relay_of_two_keeps_nobody_apart(mischief: Callable[[SimNode], None]) -> None:
    """Which of the two channels is the bad one is left to chance."""
    pair = make_pair(seed=3)
    start_all(pair)
    mischief(pair.servers[1])
    pair.network.run(5)
    pair.want()
    pair.network.run(3)
    for _ in range(10):
        if not (pair.relayed() and pair.passes()):  # what the data plane would notice
            for node, peer in ((pair.a, pair.b), (pair.b, pair.a)):
                path = node.data_paths.get(peer.key)
                if path is not None:
                    node.handle(PathSilent(peer.key, path))
        pair.network.run(1)
    pair.a.handle(PingRequested(1, pair.b.key))
    pair.network.run_until(lambda: bool(pair.a.notifications), 10.0)
    assert "rtt_ms" in pair.a.notifications[-1].body


def test_a_relay_that_answers_with_anything_opens_nothing(pair: Pair) -> None:
    """It says of every peer that it has opened a channel, with legs of its own choice."""
    rng = pair.network.rng
    liar = pair.servers[2]
    for _ in range(2000):
        key = rng.choice((pair.b.key, make_key(rng)))
        opened = Opened(0, rng.randrange(3), rng.choice((0, 1, 2, rng.getrandbits(31))), key, liar.address)
        message = rng.choice((opened, Close(0, rng.randrange(3), rng.randrange(5))))
        liar._execute([Send(pair.a.key, Path(SOCKET, pair.nats[0].mappings[pair.a.address]), message)])
        pair.network.run(0.01)
    held = pair.a.node.parts.relays.channels_to(pair.b.key)
    assert len(held) <= 3
    assert len(pair.a.admitted) <= 3
