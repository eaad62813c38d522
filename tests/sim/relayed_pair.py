"""Two nodes behind NATs that reach each other through relays only."""

from __future__ import annotations

from dataclasses import dataclass

from simnat import Nat
from simnet import SimNetwork
from simnode import SimNode, network_file
from wh.config.model import Network
from wh.engine.events import PathWanted
from wh.wire.address import Address, ip_of, pack

SERVERS = 4


@dataclass
class Pair:
    """a and b are behind NATs between which nothing passes."""

    network: SimNetwork
    servers: list[SimNode]
    a: SimNode
    b: SimNode
    nats: tuple[Nat, Nat]
    config: Network

    @property
    def nodes(self) -> list[SimNode]:
        return [*self.servers, self.a, self.b]

    def relays_of(self, node: SimNode) -> set[bytes]:
        return {relay.key for relay in node.node.snapshot().relays}

    def reserved(self, count: int = 3) -> bool:
        return all(len(self.relays_of(node)) >= count for node in (self.a, self.b))

    def want(self) -> None:
        self.a.handle(PathWanted(self.b.key))

    def relayed(self) -> bool:
        """Each sends to the other through a channel."""
        paths = self.a.data_paths.get(self.b.key), self.b.data_paths.get(self.a.key)
        return all(path is not None and path.channel for path in paths)

    def relay_in_use(self) -> SimNode:
        path = self.a.data_paths[self.b.key]
        assert path is not None
        return next(server for server in self.servers if server.address == path.remote)

    def passes(self) -> bool:
        """A datagram of a's first path reaches b, by its forwarder."""
        path = self.a.data_paths.get(self.b.key)
        source = self.nats[0].mappings.get(self.a.address)
        if path is None or source is None:
            return False
        leg = self.relay_in_use().relay.forward(path.channel, source, None)
        return leg is not None and self.nats[1].inbound(leg.path.remote, path.remote, 0) == self.b.address


def make_pair(seed: int = 1, servers: int = SERVERS, loss: float = 0.0) -> Pair:
    network = SimNetwork(seed, loss=loss)
    public = [SimNode(network, network.public_address(), mode="direct") for _ in range(servers)]
    nats = Nat("203.0.113.9"), Nat("198.18.7.9")
    a = SimNode(network, pack("10.1.2.3", 62096), nat=nats[0])
    b = SimNode(network, pack("10.9.8.7", 62096), nat=nats[1])
    between = {str(ip_of(pack(nat.public_ip, 1))) for nat in nats}

    def drop(source: Address, target: Address) -> bool:
        return {str(ip_of(source)), str(ip_of(target))} == between

    network.dropped_if = drop
    return Pair(network, public, a, b, nats, network_file(public[:1], [a, b]))


def start_all(pair: Pair, reservations: int = 3) -> None:
    for node in pair.nodes:
        node.start(pair.config)
    pair.network.run_until(lambda: pair.reserved(reservations), 40.0)
