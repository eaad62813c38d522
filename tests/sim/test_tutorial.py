"""The tutorial's topology: a bootstrap, node_a with a public address, node_b behind a port-restricted NAT."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sim.network import Nat, SimNetwork
from sim.simnode import SimNode, network_file

from wh.config.model import Network
from wh.events import PathWanted
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
