"""The candidates of one lookup, nearest first, with what became of each (docs/protocol.md section 5)."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum

from wh.dht.lookups.credit import Credit, Trial
from wh.dht.table.diversity import Networks, networks_of
from wh.dht.table.metric import K, distance
from wh.engine.rtt import INITIAL_TIMEOUT_S
from wh.wire.address import Address, is_private
from wh.wire.messages import Contact
from wh.wire.public_key import Key

MAX_CANDIDATES = 256
MAX_SOURCES = 3
MAX_ADDRESSES = 8
MAX_TRIES = 3
"""Of one key, at as many of its addresses: who names a key first cannot hide it behind a wrong address."""

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
class Place:
    """An address that a key is said to be at. sources: who says so; empty: it is known to be there, by our
    own routing table or its own answer."""

    address: Address
    sources: list[Key]
    tries: int = 0
    trial: Trial | None = None
    networks: Networks = field(init=False)
    is_private: bool = field(init=False)

    def __post_init__(self) -> None:
        self.networks = networks_of(self.address)
        self.is_private = is_private(self.address)

    def named_by(self, source: Key | None) -> None:
        is_news = bool(self.sources) and source not in self.sources
        if source is not None and is_news and len(self.sources) < MAX_SOURCES:
            self.sources.append(source)


@dataclass(slots=True, eq=False)
class Candidate:
    """A contact in a lookup.

    places: where it may be. place: where the last request went, or the first will go. path: the disjoint path
    that may ask it. timeout: seconds after which it is slow. slow_at, give_up_at: of the request in flight.
    """

    key: Key
    distance: int
    flags: int
    place: Place
    path: int
    places: list[Place] = field(init=False)
    timeout: float = INITIAL_TIMEOUT_S
    state: State = State.FRESH
    slow_at: float = 0.0
    give_up_at: float = 0.0
    token: bytes = b""

    def __post_init__(self) -> None:
        self.places = [self.place]

    @property
    def tries(self) -> int:
        return sum(place.tries for place in self.places)

    @property
    def may_be_tried(self) -> bool:
        return self.tries < min(MAX_TRIES, len(self.places))

    @property
    def in_flight(self) -> bool:
        return self.state in (State.WAITING, State.SLOW)

    @property
    def contact(self) -> Contact:
        return Contact(self.key, self.place.address, self.flags)

    def named(self, address: Address, source: Key | None) -> None:
        """Somebody says that it is at this address."""
        known = next((place for place in self.places if place.address == address), None)
        if known is not None:
            known.named_by(source)
        elif len(self.places) < MAX_ADDRESSES:
            self.places.append(Place(address, [] if source is None else [source]))


def _believed(place: Place) -> tuple[bool, int]:
    """What is known before what most say."""
    return not place.sources, len(place.sources)


class Shortlist:
    """At most 256 candidates; when full, a nearer one takes the place of the farthest not asked yet."""

    def __init__(self, target: Key, excluded: Collection[Key]) -> None:
        self._target = target
        self._excluded = frozenset(excluded)
        self._by_key: dict[Key, Candidate] = {}
        self._by_distance: list[Candidate] = []
        self.credit = Credit()

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
            known.named(contact.address, source)
            return known
        gap = distance(contact.key, self._target)
        if len(self._by_distance) >= MAX_CANDIDATES and not self._drop_one_farther_than(gap):
            return None
        place = Place(contact.address, [] if source is None else [source])
        candidate = Candidate(contact.key, gap, contact.flags, place, path)
        self._by_key[contact.key] = candidate
        insort(self._by_distance, candidate, key=lambda each: each.distance)
        return candidate

    def next_place(self, candidate: Candidate) -> Place | None:
        """Where to ask it now; None: nowhere yet, because others have to answer before, or nowhere at all."""
        usable = [place for place in candidate.places if not self._is_closed(place)]
        fewest = min((place.tries for place in usable), default=0)
        now = [place for place in usable if place.tries == fewest and self._may_ask(place)]
        return max(now, key=_believed, default=None)

    def is_dropped(self, candidate: Candidate) -> bool:
        """Only those have told of it who told of too many that do not answer, or its network has too many."""
        return candidate.state is State.FRESH and all(map(self._is_closed, candidate.places))

    def begin(self, candidate: Candidate, place: Place) -> None:
        """A request goes there."""
        candidate.place = place
        place.tries += 1
        if place.trial is not None:
            place.trial.again()
        elif place.sources:
            place.trial = self.credit.begin(place.sources, place.networks)
        if place.trial is not None:
            place.trial.pay()

    def ranked(self) -> Iterator[Candidate]:
        """Candidates that are not dead and not dropped, nearest first."""
        for candidate in self._by_distance:
            if candidate.state is not State.DEAD and not self.is_dropped(candidate):
                yield candidate

    def region(self, radius: int, *, without: Collection[State] = ()) -> Iterator[Candidate]:
        """The K nearest, and all within radius (2 K at most), at most 2 of a /24 and 4 of a /16.

        Where fewer than K networks-apart candidates are left, the nearest others fill up to K: a small
        network has no more to choose from.
        """
        counts: Counter[bytes] = Counter()
        chosen = 0
        crowded: list[Candidate] = []
        for candidate in self._by_distance:
            if candidate.state is State.DEAD or candidate.state in without or self.is_dropped(candidate):
                continue
            if chosen >= MAX_REGION or (chosen >= K and candidate.distance > radius):
                break
            small, large = candidate.place.networks
            if not candidate.place.is_private:
                if counts[small] >= MAX_OF_NETWORK_24 or counts[large] >= MAX_OF_NETWORK_16:
                    crowded.append(candidate)
                    continue
                counts[small] += 1
                counts[large] += 1
            chosen += 1
            yield candidate
        yield from crowded[: max(0, K - chosen)]

    def _may_ask(self, place: Place) -> bool:
        if place.trial is not None:
            return place.trial.can_pay
        return not place.sources or self.credit.may_ask(place.sources, place.networks)

    def _is_closed(self, place: Place) -> bool:
        if place.trial is not None:
            return not place.trial.can_pay and not place.trial.waits
        return bool(place.sources) and self.credit.is_closed(place.sources, place.networks)

    def _drop_one_farther_than(self, gap: int) -> bool:
        for position in range(len(self._by_distance) - 1, -1, -1):
            candidate = self._by_distance[position]
            if candidate.distance <= gap:
                return False
            if candidate.state is State.FRESH and not candidate.tries:
                del self._by_distance[position], self._by_key[candidate.key]
                return True
        return False
