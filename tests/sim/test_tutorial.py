"""The tutorial's topology: a bootstrap, node_a with a public address, node_b behind a port-restricted NAT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from simnat import Nat
from simnet import SimNetwork
from simnode import SimNode, make_key, network_file, peer_line
from wh.config.model import Endpoint, Network, Peer, PeerKind
from wh.engine.events import (
    ForgetRequested,
    LookupRequested,
    NetworkLoaded,
    PathWanted,
    PingRequested,
    Stopping,
)
from wh.wire.address import pack


@dataclass
class Tutorial:
    network: SimNetwork
    boot: SimNode
    a: SimNode
    b: SimNode
    nat: Nat
    config: Network

    def connected(self) -> bool:
        return self.a.has_path(self.b) and self.b.has_path(self.a)


def make_tutorial(seed: int = 1, loss: float = 0.0) -> Tutorial:
    network = SimNetwork(seed, loss=loss)
    boot = SimNode(network, pack("192.0.2.1", 62096))
    a = SimNode(network, pack("198.51.100.7", 62096))
    nat = Nat("203.0.113.9")
    b = SimNode(network, pack("10.1.2.3", 62096), nat=nat)
    return Tutorial(network, boot, a, b, nat, network_file([boot], [a, b]))


@pytest.fixture
def tutorial() -> Tutorial:
    return make_tutorial()


def start_all(tutorial: Tutorial, pause: float = 3.0) -> None:
    for node in (tutorial.boot, tutorial.a, tutorial.b):
        node.start(tutorial.config)
        tutorial.network.run(pause)


def test_both_have_paths_soon_after_the_second_start(tutorial: Tutorial) -> None:
    tutorial.boot.start(tutorial.config)
    tutorial.network.run(5)
    tutorial.a.start(tutorial.config)
    tutorial.network.run(5)
    tutorial.b.start(tutorial.config)
    took = tutorial.network.run_until(tutorial.connected, 2.0)
    assert took < 0.5  # five round trips of 60 ms and some


def test_the_order_of_starting_does_not_matter(tutorial: Tutorial) -> None:
    tutorial.b.start(tutorial.config)
    tutorial.network.run(4)
    tutorial.a.start(tutorial.config)
    tutorial.network.run(4)
    tutorial.boot.start(tutorial.config)
    tutorial.network.run_until(tutorial.connected, 12.0)


@pytest.mark.parametrize("seed", range(6))
def test_paths_come_up_on_lossy_links(seed: int) -> None:
    tutorial = make_tutorial(seed, loss=0.1)
    start_all(tutorial, pause=2.0)
    tutorial.network.run_until(tutorial.connected, 20.0)


def test_traffic_at_the_public_side_brings_no_second_path(tutorial: Tutorial) -> None:
    start_all(tutorial)
    path = tutorial.a.data_paths[tutorial.b.key]
    tutorial.a.handle(PathWanted(tutorial.b.key))
    tutorial.b.handle(PathWanted(tutorial.a.key))
    tutorial.network.run(2)
    assert tutorial.a.data_paths[tutorial.b.key] == path
    assert tutorial.b.data_paths[tutorial.a.key].remote == tutorial.a.address


def test_the_path_leads_through_the_mapping_of_the_nat(tutorial: Tutorial) -> None:
    start_all(tutorial)
    assert tutorial.a.data_paths[tutorial.b.key].remote == tutorial.nat.mappings[tutorial.b.address]


def test_a_peer_that_restarts_without_a_word_is_back_within_two_seconds(tutorial: Tutorial) -> None:
    start_all(tutorial)
    for node in (tutorial.b, tutorial.a):
        node.stop()
        tutorial.network.run(1)
        node.start(tutorial.config)
        tutorial.network.run_until(tutorial.connected, 2.0)


def test_a_peer_that_leaves_loses_its_path_at_once(tutorial: Tutorial) -> None:
    start_all(tutorial)
    tutorial.b.handle(Stopping())
    tutorial.b.stop()
    tutorial.network.run(0.2)
    assert not tutorial.a.has_path(tutorial.b)


def test_a_peer_that_dies_loses_its_path_after_three_keepalives(tutorial: Tutorial) -> None:
    start_all(tutorial)
    tutorial.b.stop()
    tutorial.network.run(15)
    assert tutorial.a.has_path(tutorial.b)
    tutorial.network.run_until(lambda: not tutorial.a.has_path(tutorial.b), 20.0)


def test_paths_survive_the_death_of_the_bootstrap(tutorial: Tutorial) -> None:
    start_all(tutorial)
    tutorial.boot.stop()
    changes = len(tutorial.a.path_changes) + len(tutorial.b.path_changes)
    tutorial.network.run(600)
    assert tutorial.connected()
    assert len(tutorial.a.path_changes) + len(tutorial.b.path_changes) == changes


def test_peers_find_each_other_again_after_the_bootstrap_forgot_them(tutorial: Tutorial) -> None:
    start_all(tutorial)
    tutorial.boot.stop()
    tutorial.b.stop()
    tutorial.network.run(100)
    tutorial.boot.start(tutorial.config)
    tutorial.network.run(130)  # its restart is noticed by a check each minute
    tutorial.b.start(tutorial.config)
    tutorial.network.run_until(tutorial.connected, 2.0)


def test_a_new_mapping_of_the_nat_is_followed(tutorial: Tutorial) -> None:
    start_all(tutorial)
    before = tutorial.a.data_paths[tutorial.b.key]
    tutorial.nat.rebind()
    tutorial.network.run_until(lambda: tutorial.a.data_paths[tutorial.b.key] not in (None, before), 30.0)
    tutorial.network.run(120)
    assert tutorial.connected()
    assert tutorial.a.data_paths[tutorial.b.key].remote == tutorial.nat.mappings[tutorial.b.address]


def test_an_idle_pair_stays_connected_at_a_few_packets_a_minute(tutorial: Tutorial) -> None:
    start_all(tutorial)
    changes = len(tutorial.a.path_changes) + len(tutorial.b.path_changes)
    sent = tutorial.network.sent
    tutorial.network.run(3600)
    assert len(tutorial.a.path_changes) + len(tutorial.b.path_changes) == changes
    assert (tutorial.network.sent - sent) / 60 < 60


def test_two_nodes_with_endpoints_in_the_file_need_no_bootstrap() -> None:
    network = SimNetwork(1)
    a = SimNode(network, pack("198.51.100.7", 62096))
    b = SimNode(network, pack("203.0.113.7", 62096))
    lines = (peer_line(PeerKind.TRUST, a, endpoint=True), peer_line(PeerKind.TRUST, b, endpoint=True))
    for node in (a, b):
        node.start(Network(peers=lines))
    network.run_until(lambda: a.has_path(b) and b.has_path(a), 1.0)


def test_a_private_network_uses_its_private_addresses() -> None:
    network = SimNetwork(1)
    boot, a, b = (SimNode(network, pack(f"192.168.{i}.1", 62096)) for i in range(3))
    config = network_file([boot], [a, b])
    for node in (boot, a, b):
        node.start(config)
    network.run_until(lambda: a.has_path(b) and b.has_path(a), 3.0)


def test_a_reload_disturbs_only_the_peers_whose_lines_changed(tutorial: Tutorial) -> None:
    start_all(tutorial)
    c = SimNode(tutorial.network, pack("198.18.5.5", 62096))
    changes = list(tutorial.a.path_changes)
    with_c = network_file([tutorial.boot], [tutorial.a, tutorial.b, c])
    for node in (tutorial.a, tutorial.b):
        node.handle(NetworkLoaded(with_c))
    c.start(with_c)
    tutorial.network.run_until(lambda: tutorial.a.has_path(c) and tutorial.b.has_path(c), 5.0)
    tutorial.a.handle(NetworkLoaded(tutorial.config))
    tutorial.network.run(1)
    assert not tutorial.a.has_path(c)
    of_b = [change for change in tutorial.a.path_changes if change[1] == tutorial.b.key]
    assert of_b == changes


def test_a_bootstrap_behind_a_name_is_resolved(tutorial: Tutorial) -> None:
    boot = Peer(PeerKind.BOOT, tutorial.boot.key, endpoint=Endpoint("boot.example"))
    others = [peer_line(PeerKind.TRUST, node) for node in (tutorial.a, tutorial.b)]
    config = Network(peers=(boot, *others))
    tutorial.a.names["boot.example"] = tutorial.b.names["boot.example"] = (tutorial.boot.address,)
    for node in (tutorial.boot, tutorial.a, tutorial.b):
        node.start(config)
    tutorial.network.run_until(tutorial.connected, 3.0)


def test_ping_and_lookup_answer_the_user(tutorial: Tutorial) -> None:
    start_all(tutorial)
    tutorial.a.handle(PingRequested(1, tutorial.b.key))
    tutorial.b.handle(LookupRequested(2, tutorial.a.key))
    tutorial.b.handle(PingRequested(3, make_key(tutorial.network.rng)))
    tutorial.network.run(8)
    ping = final(tutorial.a, 1)
    assert ping["via"] is None
    assert 40 < ping["rtt_ms"] < 80
    lookup = final(tutorial.b, 2)
    assert lookup["found"]
    assert lookup["candidates"] == ["198.51.100.7:62096"]
    assert lookup["hops"] == 1
    assert final(tutorial.b, 3)["error"]["code"] == "WH320"


def test_a_forgotten_peer_is_found_again(tutorial: Tutorial) -> None:
    start_all(tutorial)
    tutorial.b.handle(ForgetRequested(tutorial.a.key))
    assert not tutorial.b.has_path(tutorial.a)
    tutorial.network.run_until(tutorial.connected, 3.0)


def final(node: SimNode, request: int) -> dict[str, Any]:
    (body,) = [each.body for each in node.notifications if each.request == request and each.final]
    return body


def test_two_nodes_behind_nats_meet_in_a_network_too_small_to_judge_them() -> None:
    """Both publish unconfirmed addresses and try each other's, and so open their NATs to each other."""
    network = SimNetwork(2)
    boot = SimNode(network, pack("192.0.2.1", 62096))
    a = SimNode(network, pack("10.0.0.1", 62096), nat=Nat("198.51.100.1"))
    b = SimNode(network, pack("10.0.0.1", 62097), nat=Nat("203.0.113.1"))
    config = network_file([boot], [a, b])
    for node in (boot, a, b):
        node.start(config)
        network.run(3)
    network.run_until(lambda: a.has_path(b) and b.has_path(a), 70.0)
