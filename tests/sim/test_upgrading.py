"""Pairs behind NATs, from the first packet to a direct path, with everything that a node does in between."""

from __future__ import annotations

from typing import Any

import pytest

from simnat import Dependence, Nat, Ports
from simnet import SimNetwork
from simnode import SimNode, network_file
from wh.engine.events import Path, PathWanted
from wh.wire.address import pack

EACH_PORT = Dependence.ADDRESS_AND_PORT_DEPENDENT
KINDS: dict[str, dict[str, Any]] = {
    "full cone": {"open_to_all": True},
    "port-restricted": {},
    "open input": {"ports": Ports.PRESERVING, "input_open": True},
    "sequential": {"mapping": EACH_PORT},
}
RANDOM: dict[str, Any] = {"mapping": EACH_PORT, "ports": Ports.RANDOM}


class Upgrade:
    """a and b with their NATs, four servers, and traffic from a to b at time 0."""

    def __init__(self, nat_a: Nat, nat_b: Nat, seed: int = 1) -> None:
        self.network = SimNetwork(seed, latency_s=0.02)
        servers = [SimNode(self.network, pack(f"198.{18 + i}.0.1", 62096), mode="direct") for i in range(4)]
        self.a = SimNode(self.network, pack("10.0.0.2", 62096), nat=nat_a)
        self.b = SimNode(self.network, pack("10.0.0.3", 62096), nat=nat_b)
        config = network_file(servers[:2], [self.a, self.b])
        for each in (*servers, self.a, self.b):
            each.start(config)
        self.network.run(15)
        self.a.handle(PathWanted(self.b.key))

    @property
    def paths(self) -> tuple[Path | None, Path | None]:
        return self.a.data_paths.get(self.b.key), self.b.data_paths.get(self.a.key)

    def has_paths(self) -> bool:
        return None not in self.paths

    def is_direct(self) -> bool:
        return all(path is not None and not path.channel for path in self.paths)

    def want(self) -> None:
        """Traffic goes on."""
        self.a.handle(PathWanted(self.b.key))
        self.network.call_later(60.0, self.want)


def nat(kind: dict[str, Any], number: int, **more: Any) -> Nat:
    return Nat(f"203.{number}.113.9", seed=number, **{**kind, **more})


@pytest.mark.parametrize("a", KINDS)
@pytest.mark.parametrize("b", KINDS)
def test_data_flows_at_once_and_takes_a_direct_path_soon(a: str, b: str) -> None:
    pair = Upgrade(nat(KINDS[a], 1), nat(KINDS[b], 2))
    assert pair.network.run_until(pair.has_paths, 1.0) <= 0.2
    assert pair.network.run_until(pair.is_direct, 5.0) < 1.5
    pair.network.run(60)
    assert pair.is_direct()


def test_random_ports_are_searched_while_data_is_relayed() -> None:
    for first, second in ((RANDOM, KINDS["port-restricted"]), (KINDS["port-restricted"], RANDOM)):
        pair = Upgrade(nat(first, 1), nat(second, 2))
        pair.network.run_until(pair.has_paths, 1.0)
        pair.network.run_until(pair.is_direct, 25.0)
        pair.network.run(1)
        assert len(pair.a.sockets) + len(pair.b.sockets) == 3


def test_what_failed_is_tried_again_without_end() -> None:
    """For two minutes nothing passes between the NATs."""
    pair = Upgrade(nat({}, 1), nat({}, 2))
    between = {b"\xcb\x01", b"\xcb\x02"}
    pair.network.dropped_if = lambda source, target: {source[12:14], target[12:14]} == between
    pair.want()
    pair.network.run(120)
    assert pair.has_paths()
    assert not pair.is_direct()
    pair.network.dropped_if = lambda source, target: False
    pair.network.run_until(pair.is_direct, 75.0)


def test_two_random_nats_stay_relayed_at_little_cost() -> None:
    pair = Upgrade(nat(RANDOM, 1), nat(RANDOM, 2))
    pair.want()
    pair.network.run(30)
    sent = pair.network.sent
    pair.network.run(600)
    assert pair.has_paths()
    assert not pair.is_direct()
    # Of six nodes, a second. From 11.5 to 12.5, by the order in which relays were found.
    assert (pair.network.sent - sent) / 600 < 14
    assert len(pair.a.sockets) + len(pair.b.sockets) == 2
