"""The candidates of one lookup, nearest first, with what became of each (docs/protocol.md section 5)."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum

from wh.dht.diversity import PrefixLimit
from wh.dht.metric import K, distance
from wh.rtt import INITIAL_TIMEOUT_S
from wh.wire.address import Address
from wh.wire.messages import Contact
from wh.wire.public_key import Key

MAX_CANDIDATES = 256
MAX_SOURCES = 3
MAX_ADDRESSES = 3
"""Addresses tried for one key: whoever names a key first cannot hide it behind a wrong address."""

MAX_DEAD_OF_SOURCE = 3
"""Dead contacts given by one source, after which its others go last."""

MAX_OF_NETWORK_24 = 2  # servers of one /24, or /48, that a region counts
MAX_OF_NETWORK_16 = 4  # of one /16, or /32
MAX_REGION = 2 * K


class State(Enum):
    FRESH = "fresh"  # to be asked, or asked again
    WAITING = "waiting"  # asked
    SLOW = "slow"  # asked, and later than its timeout; another is asked in its place
    ANSWERED = "answered"
    DEAD = "dead"  # never answered


@dataclass(slots=True, eq=False)
class Candidate:
    """A contact in a lookup.

    path: the disjoint path that may ask it. sources: who named it; empty: our own routing table. timeout:
    seconds after which it is slow. slow_at, give_up_at: of the request in flight.
    """

    key: Key
    distance: int
    flags: int
    addresses: list[Address]
    path: int
    sources: set[Key] = field(default_factory=set)
    timeout: float = INITIAL_TIMEOUT_S
    state: State = State.FRESH
    tries: int = 0
    slow_at: float = 0.0
    give_up_at: float = 0.0
    token: bytes = b""

    @property
    def address(self) -> Address:
        """Where the last request went, or the first will go."""
        return self.addresses[max(self.tries - 1, 0) % len(self.addresses)]

    @property
    def in_flight(self) -> bool:
        return self.state in (State.WAITING, State.SLOW)

    @property
    def contact(self) -> Contact:
        return Contact(self.key, self.address, self.flags)

    def also_at(self, address: Address) -> None:
        """Somebody says that it is at this address."""
        if address not in self.addresses and len(self.addresses) < MAX_ADDRESSES:
            self.addresses.append(address)


class Shortlist:
    """At most 256 candidates; when full, a nearer one takes the place of the farthest not asked yet."""

    def __init__(self, target: Key, excluded: Collection[Key]) -> None:
        self._target = target
        self._excluded = frozenset(excluded)
        self._by_key: dict[Key, Candidate] = {}
        self._by_distance: list[Candidate] = []
        self._dead_of_source: Counter[Key] = Counter()

    def __iter__(self) -> Iterator[Candidate]:
        """Nearest first."""
        return iter(self._by_distance)

    def get(self, key: Key) -> Candidate | None:
        return self._by_key.get(key)

    def add(self, contact: Contact, *, path: int, source: Key | None) -> Candidate | None:
        """A contact from our table (source None) or named by source. None where it is not taken."""
        if contact.key in self._excluded:
            return None
        known = self._by_key.get(contact.key)
        if known is not None:
            self._named_again(known, contact.address, source)
            return known
        gap = distance(contact.key, self._target)
        if len(self._by_distance) >= MAX_CANDIDATES and not self._drop_one_farther_than(gap):
            return None
        candidate = Candidate(contact.key, gap, contact.flags, [contact.address], path)
        if source is not None:
            candidate.sources.add(source)
        self._by_key[contact.key] = candidate
        insort(self._by_distance, candidate, key=lambda each: each.distance)
        return candidate

    def bury(self, candidate: Candidate) -> None:
        """It never answered: those who named it lose credit."""
        candidate.state = State.DEAD
        self._dead_of_source.update(candidate.sources)

    def ranked(self) -> list[Candidate]:
        """Candidates that are not dead, nearest first; those of which nobody reliable has told go last."""
        alive = [candidate for candidate in self._by_distance if candidate.state is not State.DEAD]
        return sorted(alive, key=self._is_doubtful)

    def region(self, radius: int, *, without: Collection[State] = ()) -> list[Candidate]:
        """The K nearest, and all within radius (2 K at most), at most 2 of a /24 and 4 of a /16.

        Where fewer than K networks-apart candidates are left, the nearest others fill up to K: a small
        network has no more to choose from.
        """
        limits = (PrefixLimit(24, 48, MAX_OF_NETWORK_24), PrefixLimit(16, 32, MAX_OF_NETWORK_16))
        chosen: list[Candidate] = []
        crowded: list[Candidate] = []
        for candidate in self.ranked():
            if candidate.state in without:
                continue
            if len(chosen) >= MAX_REGION or (len(chosen) >= K and candidate.distance > radius):
                break
            if all(limit.has_room(candidate.address) for limit in limits):
                for limit in limits:
                    limit.add(candidate.address)
                chosen.append(candidate)
            else:
                crowded.append(candidate)
        return chosen + crowded[: max(0, K - len(chosen))]

    def _named_again(self, known: Candidate, address: Address, source: Key | None) -> None:
        known.also_at(address)
        if source is not None and known.sources and len(known.sources) < MAX_SOURCES:
            known.sources.add(source)

    def _drop_one_farther_than(self, gap: int) -> bool:
        for position in range(len(self._by_distance) - 1, -1, -1):
            candidate = self._by_distance[position]
            if candidate.distance <= gap:
                return False
            if candidate.state is State.FRESH and not candidate.tries:
                del self._by_distance[position], self._by_key[candidate.key]
                return True
        return False

    def _is_doubtful(self, candidate: Candidate) -> bool:
        return (
            candidate.state is not State.ANSWERED
            and bool(candidate.sources)
            and all(self._dead_of_source[source] >= MAX_DEAD_OF_SOURCE for source in candidate.sources)
        )
