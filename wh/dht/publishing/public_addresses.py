"""Addresses of the file's public nodes of which the file says nothing: those of the other address family, by
their own records (docs/protocol.md section 5). Then a network of IPv6 alone is no end for a file of IPv4
literals."""

from __future__ import annotations

from collections.abc import Iterable

from wh.config.model import Network, PeerKind
from wh.dht.kademlia import Kademlia
from wh.dht.lookups.searches import Searches
from wh.engine.commands import RememberAddresses
from wh.engine.core import Engine
from wh.engine.endpoints import FileEndpoints
from wh.engine.events import AddressesRemembered, Instant, Key
from wh.engine.randomness import jittered
from wh.engine.timers import Alarm
from wh.wire.address import Address, is_v4
from wh.wire.records import Record

NODES_MAX = 16
FIRST_S = 2.0
"""After a server answered: its own record comes later than it does."""

RETRY_S = 30.0
REFRESH_S = 1800.0


class PublicAddresses:
    """joined() is called when a server answers that did not before."""

    def __init__(
        self, engine: Engine, kademlia: Kademlia, searches: Searches, endpoints: FileEndpoints
    ) -> None:
        self._engine = engine
        self._kademlia = kademlia
        self._searches = searches
        self._endpoints = endpoints
        self._nodes: tuple[Key, ...] = ()
        self._known: dict[Key, tuple[Address, ...]] = {}
        self._next = Alarm(engine.timers)

    def set_network(self, network: Network) -> None:
        boots = (peer.key for peer in network.peers if peer.kind is PeerKind.BOOT)
        self._nodes = tuple(key for key in boots if key != self._engine.key)[:NODES_MAX]
        known = {key: self._usable(addresses) for key, addresses in self._known.items() if key in self._nodes}
        self._set(known)

    def remembered(self, event: AddressesRemembered) -> None:
        """Of an earlier run; before set_network()."""
        self._known = dict(event.addresses)

    def joined(self, now: Instant) -> None:
        if self._nodes and not self._next.pending:
            self._next.set(now.monotonic + jittered(self._engine.rng, FIRST_S), self._look_up)

    def _look_up(self, now: Instant) -> None:
        for key in self._nodes if self._kademlia.joined else ():
            self._searches.find_record(key, now, have_sequence=0, found=self._found, done=lambda then: None)
        right = self._kademlia.clocks.slow_s(now) is None
        complete = right and all(self._known.get(key) for key in self._nodes)
        wait_s = jittered(self._engine.rng, REFRESH_S if complete else RETRY_S)
        self._next.set(now.monotonic + wait_s, self._look_up)

    def _found(self, record: Record, now: Instant) -> None:
        addresses = self._usable(candidate.address for candidate in record.candidates)
        if record.key not in self._nodes or not addresses or self._known.get(record.key) == addresses:
            return
        self._set({**self._known, record.key: addresses})
        self._engine.emit(RememberAddresses(tuple(self._known.items())))

    def _usable(self, addresses: Iterable[Address]) -> tuple[Address, ...]:
        """One of each family at most: the other says the same."""
        first: dict[bool, Address] = {}
        for address in addresses:
            if self._engine.addressing.is_acceptable(address):
                first.setdefault(is_v4(address), address)
        return tuple(first.values())

    def _set(self, known: dict[Key, tuple[Address, ...]]) -> None:
        self._known = known
        self._endpoints.set_learnt(known)
