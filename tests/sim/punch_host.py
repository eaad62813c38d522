"""A simulated host that does nothing but punch: the engine's parts for that, without paths that want it."""

from __future__ import annotations

import random

from simnat import Nat
from simnet import CORE_HOPS, SimNetwork
from simnode import SimNode, connect_by_channel, fake_sign, fake_verify, network_file
from wh.dht.discovery import Discovery
from wh.dht.kademlia import Kademlia
from wh.dht.lookups.searches import Searches
from wh.engine.commands import AdoptSocket, Command, Send
from wh.engine.core import Engine
from wh.engine.endpoints import FileEndpoints
from wh.engine.events import (
    PUNCH_SOCKETS_FROM,
    Event,
    Instant,
    Key,
    KnockReceived,
    LocalAddresses,
    MessageReceived,
    NameResolved,
    NetworkLoaded,
    Path,
    SendFailed,
    SessionOpened,
    SocketOpened,
)
from wh.engine.requests import Requests
from wh.nat.reachability import Mode, OwnReachability
from wh.node.server import Server
from wh.punch.punching import Punching
from wh.wire.address import Address, pack
from wh.wire.messages import Probe

RELAYS = (pack("198.51.1.1", 62096), pack("203.1.1.1", 62096))


class PunchEngine:
    """Like wh.node.node.Node, with punching and what that needs."""

    def __init__(self, key: Key, rng: random.Random) -> None:
        self.engine = Engine(key, rng)
        self.kademlia = Kademlia.of(self.engine, fake_sign(key), fake_verify)  # type: ignore[arg-type]
        self.requests = Requests(self.engine)
        searches = Searches(self.engine, self.requests, self.kademlia)
        self.reachability = OwnReachability(
            self.engine, self.requests, self.kademlia, Mode.NAT, lambda now: None
        )
        self.endpoints = FileEndpoints(self.engine, lambda now: None)
        self.discovery = Discovery(
            self.engine,
            self.requests,
            self.kademlia,
            searches,
            self.endpoints,
            capabilities=lambda: 0,
            new_server=lambda key, now: self.reachability.servers_changed(now),
        )
        self.trusted: set[Key] = set()
        self.seen_at: dict[Key, set[bytes]] = {}
        self.found: list[tuple[Key, Path, float, float]] = []  # peer, path, round trip, when
        self.ended: list[tuple[Key, bool, float]] = []
        self.adopts = False
        self.punching = Punching(
            self.engine,
            self.requests,
            self.reachability,
            allowed=lambda peer: peer in self.trusted,
            observed=lambda peer: frozenset(self.seen_at.get(peer, ())),
            found=self._found,
            ended=lambda peer, succeeded, now: self.ended.append((peer, succeeded, now.monotonic)),
        )
        self.server = Server(
            self.engine,
            self.requests,
            self.kademlia,
            self.discovery,
            self.reachability,
            searches,
            record_sequence=lambda: 0,
            is_doubled=lambda key, instance, now: False,
        )

    def _found(self, peer: Key, path: Path, rtt_s: float, told: bool, now: Instant) -> None:
        self.found.append((peer, path, rtt_s, now.monotonic))
        if self.adopts and path.socket >= PUNCH_SOCKETS_FROM:
            self.engine.emit(AdoptSocket(path.socket))

    def handle(self, event: Event, now: Instant) -> list[Command]:
        match event:
            case MessageReceived():
                self._received(event, now)
            case SessionOpened(peer=peer):
                self.engine.peers.obtain(peer).session = True
            case SendFailed():
                if not self.punching.send_failed(event, now):
                    self.requests.send_failed(event, now)
            case SocketOpened():
                self.engine.sockets.opened(event, now)
            case KnockReceived():
                self.reachability.knocked(event, now)
            case LocalAddresses():
                self.engine.addressing.set_local(event)
                self.reachability.restart(now)
            case NetworkLoaded(network=network):
                self.engine.addressing.set_network(network)
                self.endpoints.set_network(network, now)
                self.discovery.set_network(network, now)
            case NameResolved():
                self.endpoints.resolved(event, now)
        return self.engine.take_commands()

    def _received(self, event: MessageReceived, now: Instant) -> None:
        if not event.first_contact:
            self.engine.peers.obtain(event.peer).session = True
        if not self.requests.take_answer(event, now) and not self.punching.handle(event, now):
            self.server.handle(event, now)

    def tick(self, now: Instant) -> list[Command]:
        self.engine.timers.run_due(now)
        return self.engine.take_commands()

    def next_deadline(self) -> float | None:
        return self.engine.timers.next_deadline()


class PunchHost(SimNode):
    node: PunchEngine  # type: ignore[assignment]

    def _reset(self) -> None:
        super()._reset()
        self.node = PunchEngine(self.key, random.Random(self.network.rng.random()))
        self.probes: list[tuple[float, Send]] = []

    def begin_with(self, peer: Key, channel: Path) -> None:
        self.node.punching.begin(peer, channel, self.network.now)
        self._execute(self.node.engine.take_commands())

    def _execute(self, commands: list[Command]) -> None:
        now = self.network.time
        self.probes += [
            (now, each) for each in commands if isinstance(each, Send) and isinstance(each.message, Probe)
        ]
        super()._execute(commands)


class Pair:
    """Two hosts behind their NATs, servers that tell them where they are, and a channel between them."""

    def __init__(
        self,
        nat_a: Nat | None,
        nat_b: Nat | None,
        *,
        seed: int = 1,
        servers: int = 4,
        loss: float = 0.0,
        inside_a: str = "10.0.0.2",
        inside_b: str = "10.0.0.3",
        settle_s: float = 20.0,
        core_hops: int = CORE_HOPS,
    ) -> None:
        self.network = SimNetwork(seed, latency_s=0.02, loss=loss)
        self.network.core_hops = core_hops
        boots = [
            SimNode(self.network, pack(f"198.{18 + i}.0.1", 62096), mode="direct") for i in range(servers)
        ]
        self.a = PunchHost(self.network, pack(inside_a, 62096), nat=nat_a)
        self.b = PunchHost(self.network, pack(inside_b, 62096), nat=nat_b)
        config = network_file(boots, [])
        for each in (*boots, self.a, self.b):
            each.start(config)
        self.channel_a, self.channel_b = connect_by_channel(self.network, self.a, self.b, RELAYS[0])
        self._introduce(self.a, self.b)
        self._introduce(self.b, self.a)
        self.network.run(settle_s)

    def _introduce(self, host: PunchHost, other: PunchHost) -> None:
        host.node.trusted.add(other.key)
        host.node.seen_at[other.key] = {seen_by_relay(other, relay) for relay in RELAYS}

    def begin(self) -> None:
        self.begun = self.network.now.monotonic
        self.a.begin_with(self.b.key, self.channel_a)

    def begin_at_b(self) -> None:
        self.b.begin_with(self.a.key, self.channel_b)

    def over(self) -> bool:
        """The peer may have heard of nothing."""
        hosts = ((self.a, self.b), (self.b, self.a))
        return any(host.node.ended for host, _ in hosts) and not any(
            host.node.punching.is_running(other.key) for host, other in hosts
        )

    def run(self, seconds: float = 40.0) -> bool:
        """An attempt to its end on both sides; whether both found a path."""
        for host in (self.a, self.b):
            host.node.ended.clear()
            host.node.found.clear()
        self.begin()
        self.network.run_until(self.over, seconds)
        return all(host.node.ended and host.node.ended[0][1] for host in (self.a, self.b))

    @property
    def took(self) -> float:
        """From begin() until both sides had a path."""
        return max(host.node.found[0][3] for host in (self.a, self.b)) - self.begun

    def open_sockets(self) -> int:
        return len(self.a.sockets) + len(self.b.sockets) - 2


def seen_by_relay(host: PunchHost, relay: Address) -> bytes:
    source, nat = host.address, host.nat
    while nat is not None:
        source, nat = nat.outbound(source, relay, host.network.time), nat.outer
    return source[:16]
