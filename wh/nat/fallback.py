"""Where UDP does not get through: TCP links to a few servers in its place (docs/protocol.md section 6).

A link stands for the UDP address of its server: while there is one, Addressing.path_to() leads over it, and
nobody else needs to know.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

from wh.dht.discovery import Discovery
from wh.dht.kademlia import Kademlia
from wh.engine.commands import ConnectTcp, DisconnectTcp
from wh.engine.core import Engine
from wh.engine.endpoints import FileEndpoints
from wh.engine.events import TCP, Instant, Key, MessageReceived, Path, TcpConnected, TcpLost
from wh.engine.limits import RecentlySeen
from wh.engine.randomness import jittered
from wh.engine.requests import Answer, Requests, Schedule
from wh.engine.timers import Alarm
from wh.wire.address import Address, is_private, port_of
from wh.wire.messages import Ping, Pong
from wh.wire.records import Relay

LINKS_MAX = 3
WANTED_LINKS_MAX = 5
"""Besides those: to relays of peers. The one that was wanted longest ago goes first."""

WANTED_AGAIN_S = 15.0
"""Where such a relay did not answer it is not dialled again."""

DEFAULT_TCP_PORT = 443
"""Of bootstraps, besides the number of their UDP port: what gets through where little does."""

VERDICT_S = 1.5
"""Silence of all servers, while they were asked, before TCP is tried."""

ASK = Schedule((0.4, 0.9), 1.4)
ASKED_MAX = 3
QUIET_S = 5.0
"""While a server answered this recently, what others leave unanswered is no reason for doubts."""

RETRY_AFTER_S = (0.2, 2.0, 5.0, 15.0, 60.0)
HEARD_S = 3.0
"""So long after anybody public answered over UDP it counts as blocked, not as the trouble of some servers."""

LIVED_S = 10.0
"""A link that lived this long is worth dialling again at once."""

TRY_UDP_S = 60.0
TRY = Schedule((0.5,), 1.5)
CHECK = Schedule((0.5,), 1.2)
"""For links, when our addresses change: TCP itself takes 20 s to give up a connection that leads nowhere."""

DRAIN_S = 5.0
"""What is under way over TCP when UDP works again still arrives."""


class Transport(Enum):
    UDP = "udp"  # or not known yet
    SUSPECT = "suspect"  # servers are being asked
    BLOCKED = "blocked"  # none answered


class Fallback:
    """moved(now) is called whenever paths to servers lead another way than before."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        kademlia: Kademlia,
        endpoints: FileEndpoints,
        discovery: Discovery,
        *,
        moved: Callable[[Instant], None],
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._endpoints = endpoints
        self._discovery = discovery
        self._moved = moved
        self._transport = Transport.UDP
        self._heard_at = float("-inf")  # an answer over UDP
        self._links: dict[Address, Key] = {}
        self._dialled: dict[Address, Key] = {}
        self._wanted: OrderedDict[Address, float] = OrderedDict()  # of both, those to relays of peers
        self._refused = RecentlySeen(WANTED_AGAIN_S)
        self._connected_at = float("-inf")
        self._draining: list[Address] = []
        self._failures = 0
        self._next = Alarm(engine.timers)  # doubts, the verdict, or the next attempts
        self._drained = Alarm(engine.timers)
        self._next_try = Alarm(engine.timers)
        requests.answer_listeners.append(self._answered)
        requests.silence_listeners.append(self._unanswered)

    @property
    def blocked(self) -> bool:
        """UDP does not get through, and TCP does: it is not the whole network that is down."""
        return self._engine.addressing.udp_blocked

    @property
    def links(self) -> tuple[Address, ...]:
        """The UDP addresses of the servers that we reach over TCP."""
        return tuple(self._links)

    # What the node tells it

    def surroundings_changed(self, now: Instant) -> None:
        """Other bootstraps, other addresses of ours: what was known of UDP says nothing."""
        if self._transport is Transport.BLOCKED:
            self._try_udp(now)
            for address, key in self._links.items():
                self._check_link(address, key, now)
        else:
            self._suspect(now)

    def connected(self, event: TcpConnected, now: Instant) -> None:
        key = self._dialled.pop(event.address, None)
        if key is None or self._transport is not Transport.BLOCKED:
            self._engine.emit(DisconnectTcp(event.address))
            return
        self._connected_at = now.monotonic
        self._links[event.address] = key
        self._engine.addressing.add_link(event.address)
        self._engine.addressing.udp_blocked = now.monotonic - self._heard_at > HEARD_S
        if not self._next_try.pending:
            self._schedule_try(now)
        self._ask_over_links(now)
        self._moved(now)

    def lost(self, event: TcpLost, now: Instant) -> None:
        """Nobody answered there, or the connection broke. Of those that others made to us we know nothing."""
        if self._dialled.pop(event.address, None) is None and event.address not in self._links:
            return
        was_link = self._links.pop(event.address, None) is not None
        self._engine.addressing.remove_link(event.address)
        self._engine.addressing.udp_blocked &= bool(self._links)
        if self._wanted.pop(event.address, None) is not None:
            self._refused.note(event.address, now.monotonic)
        elif self._transport is Transport.BLOCKED:
            if was_link and now.monotonic - self._connected_at >= LIVED_S:
                self._failures = 0
            self._schedule_attempts(now)
        if was_link:
            self._moved(now)

    def want(self, relay: Relay, now: Instant) -> None:
        """A peer is at this relay, and no path of ours. moved() tells where a link changed that."""
        port = relay.tcp_port or self._endpoints.tcp_port_of(relay.key) or self._known_port(relay.key)
        address = relay.address
        if not self._links or not port or not self._engine.addressing.is_acceptable(address):
            return
        taken = {**self._links, **self._dialled}
        if address in taken or relay.key in taken.values():  # also at an address of the other family
            return
        if self._refused.seen(address, now.monotonic):
            return
        if len(self._wanted) >= WANTED_LINKS_MAX:
            self._give_up(next(iter(self._wanted)), now)
        self._wanted[address] = now.monotonic
        self._dialled[address] = relay.key
        self._engine.emit(ConnectTcp(address, (port,)))

    def _give_up(self, address: Address, now: Instant) -> None:
        del self._wanted[address]
        self._dialled.pop(address, None)
        was_link = self._links.pop(address, None) is not None
        self._engine.addressing.remove_link(address)
        self._engine.emit(DisconnectTcp(address))
        if was_link:
            self._moved(now)

    # Whether UDP works

    def heard(self, event: MessageReceived, now: Instant) -> None:
        """Who asks something in a session has got what we sent there, not long ago."""
        if not event.first_contact and self._is_far_udp(event.path):
            self._came_over_udp(now)

    def _answered(self, key: Key, answer: Answer, now: Instant) -> None:
        if isinstance(answer.message, Pong):
            self._engine.peers.obtain(key).tcp_port = answer.message.tcp_port
        if not self._is_far_udp(answer.path):
            return
        self._came_over_udp(now)
        is_server = key in self._kademlia.table or key in self._discovery.bootstraps
        if self._transport is Transport.BLOCKED and is_server:
            self._recover(now)

    def _is_far_udp(self, path: Path) -> bool:
        """A node on our own network says nothing of what is beyond."""
        addressing = self._engine.addressing
        far = addressing.private_network or not is_private(path.remote)
        return far and addressing.is_plain(path)

    def _came_over_udp(self, now: Instant) -> None:
        """Where servers stay silent, yet not everybody is out of reach."""
        self._heard_at = now.monotonic
        self._engine.addressing.udp_blocked = False
        if self._transport is not Transport.BLOCKED:
            self._transport = Transport.UDP
            self._next.cancel()

    def _unanswered(self, key: Key, now: Instant) -> None:
        if self._transport is Transport.UDP and not self._next.pending:
            self._next.set(max(now.monotonic, self._heard_at + QUIET_S), self._suspect)

    def _suspect(self, now: Instant) -> None:
        """Ask some servers, and look in a moment whether any answered. Addresses come one after the other
        when a host starts: that puts nothing off."""
        if self._transport is not Transport.SUSPECT:
            self._transport = Transport.SUSPECT
            self._next.set(now.monotonic + VERDICT_S, self._judge)
        if not self._kademlia.joined:
            return  # then the bootstraps are asked anyway
        alive = [(contact.key, contact.address) for contact in self._kademlia.table if not contact.dead]
        some = self._engine.rng.sample(alive, min(ASKED_MAX, len(alive)))
        for key, address in {**dict(some), **dict(self._servers()[:ASKED_MAX])}.items():
            path = self._engine.addressing.udp_path_to(address)
            if path is not None:
                self._requests.start(key, [path], self._ping(), now, schedule=ASK)

    def _judge(self, now: Instant) -> None:
        if not self._servers():
            self._transport = Transport.UDP  # nobody was asked
            self._next.cancel()
            return
        self._transport = Transport.BLOCKED
        self._failures = 0
        self._end_draining(now)
        self._attempt(now)

    def _schedule_try(self, now: Instant) -> None:
        when = now.monotonic + jittered(self._engine.rng, TRY_UDP_S)
        self._next_try.set(when, self._try_udp)

    def _try_udp(self, now: Instant) -> None:
        """The answer, if one comes, does the rest."""
        self._schedule_try(now)
        for key, address in self._servers()[:ASKED_MAX]:
            path = self._engine.addressing.udp_path_to(address)
            if path is not None:
                self._requests.start(key, [path], self._ping(), now, schedule=TRY, speculative=True)

    def _recover(self, now: Instant) -> None:
        """UDP works: paths lead there at once, and what is under way over TCP may end."""
        self._transport = Transport.UDP
        self._engine.addressing.udp_blocked = False
        self._next.cancel()
        self._next_try.cancel()
        for address in self._dialled:
            self._engine.emit(DisconnectTcp(address))
        self._dialled.clear()
        self._wanted.clear()
        if not self._links:
            return
        for address in self._links:
            self._engine.addressing.remove_link(address)
        self._draining += self._links
        self._links.clear()
        self._drained.set(now.monotonic + DRAIN_S, self._end_draining)
        self._moved(now)

    def _end_draining(self, now: Instant) -> None:
        self._drained.cancel()
        for address in self._draining:
            self._engine.emit(DisconnectTcp(address))
        self._draining.clear()

    # Links

    def _servers(self) -> list[tuple[Key, Address]]:
        """Whom to ask and to link to, one address each: the bootstraps in any order, then servers that told
        us a TCP port of theirs."""
        rng = self._engine.rng
        found = []
        for key in rng.sample(self._discovery.bootstraps, len(self._discovery.bootstraps)):
            known = self._endpoints.addresses_of(key)
            addresses = [each for each in known if self._engine.addressing.has_family_of(each)] or known
            if addresses:
                found.append((key, rng.sample(addresses, 1)[0]))
        bootstraps = set(self._discovery.bootstraps)
        for contact in self._kademlia.table:
            if contact.key not in bootstraps and self._known_port(contact.key):
                found.append((contact.key, contact.address))
        return found

    def _known_port(self, key: Key) -> int:
        """0: not known."""
        peer = self._engine.peers.get(key)
        return peer.tcp_port if peer is not None else 0

    def _ports(self, key: Key, address: Address) -> tuple[int, ...]:
        """Where to try, the likeliest first. Only nodes of the file are tried at ports that nobody said."""
        said = (self._endpoints.tcp_port_of(key), self._known_port(key))
        guessed = (DEFAULT_TCP_PORT, port_of(address)) if key in self._discovery.bootstraps else ()
        return tuple(dict.fromkeys(port for port in (*said, *guessed) if port))

    def _attempt(self, now: Instant) -> None:
        taken = {**self._links, **self._dialled}
        count = len(taken.keys() - self._wanted.keys())
        linked = set(taken.values())
        for key, address in self._servers():
            if count >= LINKS_MAX:
                break
            if key not in linked and address not in taken:
                count += 1
                linked.add(key)
                self._dialled[address] = key
                self._engine.emit(ConnectTcp(address, self._ports(key, address)))

    def _check_link(self, address: Address, key: Key, now: Instant) -> None:
        def dead(then: Instant) -> None:
            if self._links.get(address) == key:
                self._engine.emit(DisconnectTcp(address))
                self.lost(TcpLost(address), then)

        path = Path(TCP, address)
        self._requests.start(
            key, [path], self._ping(), now, schedule=CHECK, speculative=True, on_failure=dead
        )

    def _schedule_attempts(self, now: Instant) -> None:
        if self._next.pending:
            return
        after = RETRY_AFTER_S[min(self._failures, len(RETRY_AFTER_S) - 1)]
        self._failures += 1
        self._next.set(now.monotonic + jittered(self._engine.rng, after), self._attempt)

    def _ask_over_links(self, now: Instant) -> None:
        """The servers learn where we are, and enter the table again."""
        for address, key in self._links.items():
            path = self._engine.addressing.path_to(address)
            if path is not None:
                self._requests.start(key, [path], self._ping(), now)

    def _ping(self) -> Ping:
        return self._engine.echo()
