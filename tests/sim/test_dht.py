"""Larger networks: records are found in few hops, also where datagrams get lost and servers die."""

from __future__ import annotations

import pytest

from simnat import Nat
from simnet import SimNetwork
from simnode import SimNode, network_file
from wh.engine.events import LookupRequested
from wh.wire.address import pack


def make_servers(network: SimNetwork, count: int, joining_s: float = 10.0) -> list[SimNode]:
    """Servers that joined one after the other through the first three."""
    servers = [SimNode(network, network.public_address(), mode="direct") for _ in range(count)]
    config = network_file(servers[:3], [])
    for server in servers:
        server.start(config)
        network.run(joining_s / count)
    network.run(10)
    return servers


def found_fraction(network: SimNetwork, askers: list[SimNode], targets: list[SimNode]) -> float:
    for number, (asker, target) in enumerate(zip(askers, targets, strict=True)):
        asker.notifications.clear()
        asker.handle(LookupRequested(number, target.key))
    network.run(10)
    results = [note.body for asker in askers for note in asker.notifications if note.final]
    assert len(results) == len(targets)
    return sum(bool(body["found"]) for body in results) / len(results)


@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_records_are_found_at_a_loss_of_a_tenth(count: int) -> None:
    network = SimNetwork(seed=count, loss=0.1)
    servers = make_servers(network, count)
    pairs = [network.rng.sample(servers, 2) for _ in range(20)]
    askers, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert found_fraction(network, askers[:1], targets[:1]) == 1.0
    unique = {asker.key: (asker, target) for asker, target in zip(askers, targets, strict=True)}
    asking, asked = zip(*unique.values(), strict=True)
    assert found_fraction(network, list(asking), list(asked)) == 1.0


def test_records_outlive_a_third_of_the_servers() -> None:
    network = SimNetwork(seed=3)
    servers = make_servers(network, 60)
    dead = network.rng.sample(servers[3:], 20)
    for server in dead:
        server.stop()
    alive = [server for server in servers if server not in dead]
    askers = network.rng.sample(alive, 10)
    assert found_fraction(network, askers, network.rng.sample(alive, 10)) >= 0.9


def test_clients_behind_nats_enter_no_routing_table_and_are_found_by_nobody_but_connect() -> None:
    network = SimNetwork(seed=4)
    servers = make_servers(network, 30)
    public = SimNode(network, network.public_address())
    hidden = [
        SimNode(network, pack(f"10.0.0.{i}", 62096), nat=Nat(f"100.{i}.2.3"), mode="nat") for i in range(1, 4)
    ]
    config = network_file(servers[:3], [public, *hidden])
    for node in (public, *hidden):
        node.start(config)
    network.run_until(lambda: all(node.has_path(public) for node in hidden), 10.0)
    client_keys = {node.key for node in hidden}
    for server in servers:
        assert not client_keys & {contact.key for contact in server.node.snapshot().contacts}


def test_a_reachable_node_proves_itself_by_a_knock_and_becomes_a_server() -> None:
    network = SimNetwork(seed=5)
    servers = make_servers(network, 25)
    config = network_file(servers[:3], [])
    public = SimNode(network, network.public_address())
    behind_nat = SimNode(network, pack("10.0.0.2", 62096), nat=Nat("100.1.2.3"))
    open_nat = SimNode(network, pack("10.0.0.3", 62096), nat=Nat("100.4.2.3", open_to_all=True))
    for node in (public, behind_nat, open_nat):
        node.start(config)
    network.run(1300)
    assert public.node.snapshot().server
    assert open_nat.node.snapshot().server
    assert not behind_nat.node.snapshot().server
    assert any(public.key in {c.key for c in s.node.snapshot().contacts} for s in servers)


@pytest.mark.slow
def test_a_thousand_servers_find_each_other() -> None:
    network = SimNetwork(seed=6, loss=0.05)
    servers = make_servers(network, 1000, joining_s=100.0)
    askers = network.rng.sample(servers, 50)
    assert found_fraction(network, askers, network.rng.sample(servers, 50)) >= 0.98


def noticed(node: SimNode) -> bool:
    return node.node.snapshot().key_elsewhere


def one_key_in_two_places(network: SimNetwork, servers: list[SimNode], publishes_s: float) -> list[SimNode]:
    """Both, when both have noticed. publishes_s: that long at most after each other."""
    config = network_file(servers[:3], [])
    first, second, other = (SimNode(network, network.public_address()) for _ in range(3))
    for node in (first, other):
        node.start(config)
    network.run(publishes_s)  # one that publishes again, or starts again, is nobody else
    first.stop()
    first.start(config)
    network.run(publishes_s)
    assert not any(map(noticed, (*servers, first, other)))
    second.key = first.key
    second.start(config)
    network.run_until(lambda: noticed(first) and noticed(second), 2 * publishes_s, step=1.0)
    assert not any(map(noticed, (*servers, other)))
    return [first, second]


def test_a_key_in_two_places_is_noticed_there() -> None:
    network = SimNetwork(seed=7)
    one_key_in_two_places(network, make_servers(network, 1), 80)


@pytest.mark.slow
def test_a_key_in_two_places_is_noticed_among_many_servers_and_forgotten_when_it_is_in_one() -> None:
    network = SimNetwork(seed=8)
    first, second = one_key_in_two_places(network, make_servers(network, 6), 2200)
    second.stop()
    network.run(2 * 3600)
    assert not noticed(first)
    assert first.node.snapshot().published
