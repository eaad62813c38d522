"""How long a lookup takes, in virtual time: until the record is there, and until it ends."""

from __future__ import annotations

import statistics
from typing import NamedTuple

import pytest

from simnet import SimNetwork
from simnode import SimNode, network_file
from wh.engine.events import Instant
from wh.wire.records import Record

LATENCY_S = 0.03


class Times(NamedTuple):
    """Seconds; infinite where nothing was found."""

    found: float
    done: float


def populated(seed: int, servers: int, loss: float) -> tuple[SimNetwork, list[SimNode], list[SimNode]]:
    """Servers that joined one after the other and have been idle since, so that they have no sessions; and
    clients that came last, which have asked few of them."""
    network = SimNetwork(seed, latency_s=LATENCY_S, loss=loss)
    nodes = [SimNode(network, network.public_address(), mode="direct") for _ in range(servers)]
    clients = [SimNode(network, network.public_address(), mode="nat") for _ in range(20)]
    config = network_file(nodes[:3], [])
    for node in nodes:
        node.start(config)
        network.run(0.1)
    network.run(15)
    for node in nodes:
        for table in (node.sessions, node.current, node.next, node.handshakes):
            table.clear()
        for peer in node.node.parts.engine.peers.with_session():
            peer.session_lost()
            peer.validated.clear()
    for node in clients:
        node.start(config)
    network.run(10)
    return network, nodes, clients


def look_up(network: SimNetwork, asker: SimNode, target: SimNode) -> Times:
    begun, times = network.time, [float("inf"), float("inf")]

    def found(record: Record, now: Instant) -> None:
        times[0] = min(times[0], network.time - begun)

    def done(now: Instant) -> None:
        times[1] = network.time - begun

    searches = asker.node.parts.searches
    searches.find_record(target.key, network.now, have_sequence=0, found=found, done=done)
    asker._schedule()
    network.run(5)
    return Times(*times)


def percentiles(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return f"p50 {1000 * cuts[49]:.0f} ms, p99 {1000 * cuts[98]:.0f} ms"


@pytest.mark.slow
@pytest.mark.parametrize(("servers", "loss"), [(300, 0.0), (300, 0.05), (1000, 0.0)])
def test_lookups_take_a_few_round_trips(servers: int, loss: float) -> None:
    """A round trip is 60 ms here."""
    network, nodes, clients = populated(11, servers, loss)
    for name, askers in (("servers", nodes), ("newcomers", clients)):
        times = [look_up(network, network.rng.choice(askers), network.rng.choice(nodes)) for _ in range(150)]
        found, done = [each.found for each in times], [each.done for each in times]
        print(f"\nseed 11, {servers} servers, loss {loss:.0%}, asked by {name}: ", end="")
        print(f"found: {percentiles(found)}; ended: {percentiles(done)}")
        assert max(found) < 5.0
        assert statistics.median(found) < 12 * 2 * LATENCY_S
