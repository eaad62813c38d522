"""The trusted peers of the network file, as they come and go with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from wh.config.model import Network, PeerKind
from wh.engine.commands import CloseSocket
from wh.engine.core import Engine
from wh.engine.endpoints import FileEndpoints
from wh.engine.events import TCP, Instant, Key, Path, SocketAdopted
from wh.engine.requests import Requests
from wh.paths.channels import Relays
from wh.paths.finder import Reachability, RecordFinder
from wh.paths.trusted import TrustedPeer
from wh.paths.upgrades import Puncher
from wh.relay.choosing import Channel
from wh.wire.address import Address
from wh.wire.records import Relay

NEARBY_MAX = 2
"""Addresses of a peer that BEACONs tell: one a family."""


class Visit:
    """A peer that a path is sought to for a while, though the file may not name it."""

    def __init__(
        self,
        key: Key,
        endpoints: tuple[Address, ...],
        path_to: Callable[[Key], Path | None],
        end: Callable[[Visit, Instant], None],
    ) -> None:
        self.key = key
        self.endpoints = endpoints
        self._path_to = path_to
        self._end = end

    @property
    def path(self) -> Path | None:
        """The one that works; through a relay's channel where there is no other."""
        return self._path_to(self.key)

    def end(self, now: Instant) -> None:
        self._end(self, now)


class TrustedPeers:
    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        finder: RecordFinder,
        reachability: Reachability,
        endpoints: FileEndpoints,
        relays: Relays,
        puncher: Puncher,
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._finder = finder
        self._reachability = reachability
        self._endpoints = endpoints
        self._relays = relays
        self._puncher = puncher
        self._by_key: dict[Key, TrustedPeer] = {}
        self._members: frozenset[Key] = frozenset()
        self._visits: list[Visit] = []
        self._nearby: dict[Key, tuple[Address, ...]] = {}  # by BEACONs, latest first
        self._remembered: dict[Key, Address] = {}  # of an earlier run

    def __iter__(self) -> Iterator[TrustedPeer]:
        return iter(self._by_key.values())

    def get(self, key: Key) -> TrustedPeer | None:
        return self._by_key.get(key)

    def set_network(self, network: Network, now: Instant) -> None:
        """Peers that stay are not disturbed. An alias is no node: nobody has a path to it."""
        kinds = (PeerKind.TRUST, PeerKind.ROUTER)
        self._members = frozenset(peer.key for peer in network.peers if peer.kind in kinds)
        self._update(now)

    def visit(
        self,
        key: Key,
        endpoints: tuple[Address, ...],
        relays: tuple[tuple[Key, Address], ...],
        now: Instant,
    ) -> Visit:
        """Seek a path to a peer, member or not, until the visit ends. endpoints: where it may be, relays: who
        may join us with it, both besides what is known."""
        visit = Visit(key, endpoints, self._path_to, self._end_visit)
        self._visits.append(visit)
        self._update(now)
        if key in self._by_key:  # not our own
            self._by_key[key].path_wanted(now)
        if relays:
            self._relays.open(key, [Relay(relay, address, 0) for relay, address in relays], now)
        return visit

    def _path_to(self, key: Key) -> Path | None:
        peer = self._by_key.get(key)
        return peer.routes.first if peer is not None else None

    def _end_visit(self, visit: Visit, now: Instant) -> None:
        if visit in self._visits:
            self._visits.remove(visit)
            self._update(now)

    def _update(self, now: Instant) -> None:
        wanted = (self._members | {visit.key for visit in self._visits}) - {self._engine.key}
        for key in self._by_key.keys() - wanted:
            self._by_key.pop(key).close(now)
            self._nearby.pop(key, None)
        added = [key for key in wanted if key not in self._by_key]
        for key in sorted(added):
            self._by_key[key] = TrustedPeer(
                key,
                self._engine,
                self._requests,
                self._finder,
                self._reachability,
                self._relays,
                self._puncher,
            )
        self.endpoints_changed(now)
        for key in sorted(added):
            self._by_key[key].start(now)

    def endpoints_changed(self, now: Instant) -> None:
        for key, peer in self._by_key.items():
            told = [address for visit in self._visits if visit.key == key for address in visit.endpoints]
            known = [*self._nearby.get(key, ()), *self._endpoints.addresses_of(key), *told]
            known += [self._remembered[key]] if key in self._remembered else []
            peer.set_file_addresses(tuple(dict.fromkeys(known)), now)

    def heard_nearby(self, key: Key, address: Address, now: Instant) -> None:
        """Somebody says that the peer is in our LAN."""
        before = self._nearby.get(key, ())
        if key in self._by_key and address not in before:
            self._nearby[key] = (address, *before)[:NEARBY_MAX]
            self.endpoints_changed(now)

    def remember(self, members: Sequence[tuple[Key, Address]], now: Instant) -> None:
        """Where they were in an earlier run."""
        self._remembered = dict(members)
        self.endpoints_changed(now)

    def last_addresses(self) -> tuple[tuple[Key, Address], ...]:
        """Where members are, or were last."""
        found = ((key, peer.last_address) for key, peer in self._by_key.items() if key in self._members)
        return tuple((key, address) for key, address in found if address is not None)

    def joined(self, now: Instant) -> None:
        """The first server is there: all looking before was in vain, and peers may publish any moment."""
        for peer in self._by_key.values():
            peer.start(now)

    def servers_changed(self, now: Instant) -> None:
        """Somebody new may know the records of peers that have no path yet."""
        for peer in self._by_key.values():
            peer.look_again(now)

    def be_heard(self, now: Instant) -> None:
        """Whoever has a path to us gets a PING, which says which run of this node it is."""
        for peer in self._by_key.values():
            peer.be_heard(now)

    def paths_moved(self, now: Instant) -> None:
        """Some addresses are reached over TCP now, or over UDP again."""
        for peer in self._by_key.values():
            peer.path_moved(now)

    def link_lost(self, address: Address, now: Instant) -> None:
        """A connection over TCP has ended: what led over it leads nowhere."""
        for peer in self._by_key.values():
            if peer.path is not None and (peer.path.socket, peer.path.remote) == (TCP, address):
                peer.verify_path(now)

    def local_changed(self, now: Instant) -> None:
        """Our own addresses changed: what failed may work now, and peers must hear where we are."""
        for peer in self._by_key.values():
            peer.links_changed(now)

    # What relays and hole punching tell

    def channel_opened(self, channel: Channel, now: Instant) -> None:
        peer = self._by_key.get(channel.peer)
        if peer is None:
            self._relays.close(channel.path, now)
        else:
            peer.channel_opened(channel, now)

    def channel_closed(self, key: Key, path: Path, now: Instant) -> None:
        if (peer := self._by_key.get(key)) is not None:
            peer.channel_closed(path, now)

    def punching(self, key: Key, now: Instant) -> None:
        if (peer := self._by_key.get(key)) is not None:
            peer.punching(now)

    def punched(self, key: Key, path: Path, rtt: float, told: bool, now: Instant) -> None:
        if (peer := self._by_key.get(key)) is not None:
            peer.punched(path, rtt, told, now)

    def punch_ended(self, key: Key, now: Instant) -> None:
        if (peer := self._by_key.get(key)) is not None:
            peer.punch_ended(now)

    def socket_adopted(self, event: SocketAdopted, now: Instant) -> None:
        """A socket that nobody wants any more is closed again."""
        taken = [peer.socket_adopted(event.socket, event.adopted, now) for peer in self._by_key.values()]
        if event.adopted is not None and not any(taken):
            self._engine.emit(CloseSocket(event.adopted))
