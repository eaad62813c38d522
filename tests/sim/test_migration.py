"""Paths of trusted peers follow those who move, and nobody who copies their datagrams."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest

from copier import Copier
from simnat import Nat
from simnet import SimNetwork
from simnode import SOCKET, SimNode, network_file
from wh.engine.events import DataOnNewPath, Path, PathWanted, PingRequested
from wh.wire.address import Address, pack

PACKET_S = 0.02
"""Between two datagrams of user data, each way."""


@dataclass
class Data:
    """What the data plane does with a datagram of user data: it tells of one that comes on another path than
    the one it sends on."""

    receiver: SimNode
    sender: SimNode
    number: int


class Pair:
    """a is behind a NAT where `nat` says so; b is public. User data goes both ways all the time."""

    def __init__(self, seed: int, nat: Nat | None = None) -> None:
        self.network = SimNetwork(seed)
        self.server = SimNode(self.network, self.network.public_address(), mode="direct")
        inside = pack("10.1.2.3", 62096) if nat is not None else self.network.public_address()
        self.a = SimNode(self.network, inside, nat=nat)
        self.b = SimNode(self.network, self.network.public_address(), mode="direct")
        self.nat = nat
        self.moves = 0
        self.received: dict[bytes, list[tuple[float, int]]] = {self.a.key: [], self.b.key: []}
        for node in (self.a, self.b):
            node._receive = partial(self._receive, node, node._receive)  # type: ignore[method-assign]
        config = network_file([self.server, self.b], [self.a, self.b])
        for node in (self.server, self.a, self.b):
            node.start(config)
        self.a.handle(PathWanted(self.b.key))
        self.b.handle(PathWanted(self.a.key))
        self.network.run_until(lambda: self.a.has_path(self.b) and self.b.has_path(self.a), 20)
        self._number = 0
        self._send()

    def source(self) -> Address:
        """Where a's datagrams come from."""
        if self.nat is None:
            return self.a.address
        return self.nat.outbound(self.a.address, self.b.address, self.network.time)

    def _send(self) -> None:
        self._number += 1
        for sender, receiver in ((self.a, self.b), (self.b, self.a)):
            for path in self.paths(sender, receiver):
                data = Data(receiver, sender, self._number)
                source = sender.sockets.get(path.socket)
                if source is not None and not path.channel:
                    self.network.send(source, path.remote, data, nat=sender.nat)
        self.network.call_later(PACKET_S, self._send)

    def paths(self, sender: SimNode, receiver: SimNode) -> list[Path]:
        return [route.path for route in sender.routes.get(receiver.key, ())]

    def _receive(self, node: SimNode, honest, path: Path, datagram) -> None:  # type: ignore[no-untyped-def]
        """The first copy counts, as in the data plane; the others are replays."""
        if not isinstance(datagram, Data):
            honest(path, datagram)
            return
        got = self.received[node.key]
        if datagram.receiver is not node or any(number == datagram.number for _, number in got[-50:]):
            return
        got.append((self.network.time, datagram.number))
        if path not in self.paths(node, datagram.sender):
            node.handle(DataOnNewPath(datagram.sender.key, path))

    def longest_gap(self, node: SimNode, since: float) -> float:
        times = [since, *(at for at, _ in self.received[node.key] if at >= since), self.network.time]
        return max(later - earlier for earlier, later in zip(times, times[1:], strict=False))


@pytest.mark.parametrize(("seed", "spoofing"), [(0, False), (1, True), (2, False)])
def test_whoever_copies_datagrams_faster_gets_no_path(seed: int, spoofing: bool) -> None:
    """In both directions, control and data alike, for a minute and through a new session."""
    pair = Pair(seed)
    copier = Copier(pair.network, pair.a.address[:16], pair.b.address[:16], spoofing=spoofing)
    begun = pair.network.time
    taken = 0
    for step in range(600):
        pair.network.run(0.1)
        if step == 300:  # the keys are old: a begins again
            del pair.a.current[pair.b.key]
            pair.a.handle(PingRequested(1, pair.b.key))
        for node, peer in ((pair.a, pair.b), (pair.b, pair.a)):
            path = node.data_paths.get(peer.key)
            taken += path is None or copier.is_ours(path.remote)
    assert copier.copied > 5_000
    assert copier.passed_on > 0
    assert taken == 0
    assert pair.longest_gap(pair.b, begun) < 0.2
    copier.stop()
    stopped = pair.network.time
    pair.network.run(10)
    for node in (pair.a, pair.b):
        assert pair.longest_gap(node, stopped) < 0.2


@pytest.mark.parametrize("seed", range(2))
def test_a_copier_on_a_lossy_way_keeps_no_path(seed: int) -> None:
    """Where the answer of the old path is lost the peer may be taken for moved, for a moment."""
    pair = Pair(seed)
    copier = Copier(pair.network, pair.a.address[:16], pair.b.address[:16])
    pair.network.loss = 0.1
    taken = 0
    for _ in range(1200):
        pair.network.run(0.1)
        path = pair.b.data_paths.get(pair.a.key)
        taken += path is not None and copier.is_ours(path.remote)
    assert copier.passed_on > 0
    assert taken < 24


@pytest.mark.parametrize("seed", range(2))
def test_a_new_mapping_costs_hardly_more_than_a_round_trip(seed: int) -> None:
    """Data goes to the new path while the old one is still asked."""
    pair = Pair(seed, Nat("203.0.113.9"))
    pair.network.run(5)
    assert pair.nat is not None
    for _ in range(3):
        pair.nat.rebind()
        begun = pair.network.time
        pair.network.run(4)
        assert pair.b.data_paths[pair.a.key] == Path(SOCKET, pair.source())
        assert pair.longest_gap(pair.a, begun) < 5 * pair.network.latency_s + 3 * PACKET_S


def test_a_mapping_that_changes_twice_is_followed() -> None:
    pair = Pair(5, Nat("203.0.113.9"))
    pair.network.run(5)
    assert pair.nat is not None
    pair.nat.rebind()
    pair.network.run(0.6)
    pair.nat.rebind()
    begun = pair.network.time
    pair.network.run(3)
    assert pair.b.data_paths[pair.a.key] == Path(SOCKET, pair.source())
    assert pair.longest_gap(pair.a, begun) < 0.5
