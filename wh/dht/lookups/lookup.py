"""Iterative lookup of the servers nearest to a key, and of its record (docs/protocol.md section 5).

A pure state machine: the caller asks next_queries() whom to send FIND to, and reports what came back. Each
candidate goes FRESH -> WAITING -> SLOW -> ANSWERED or DEAD, with one way back to FRESH, to be asked again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wh.dht.lookups.shortlist import Candidate, Place, Shortlist, State
from wh.dht.table.contacts import TrackedContact
from wh.dht.table.metric import ALPHA, K, distance
from wh.wire.address import Address, is_private
from wh.wire.messages import MAX_CONTACTS, Contact
from wh.wire.public_key import Key
from wh.wire.records import Record

PATHS_NORMAL = 1
PATHS_CAREFUL = 4  # to publish, or after a miss
PATHS_PARANOID = 8

RETRY_S = 1.5
"""Seconds until a request is given up, and repeated: one lost datagram does not make a server dead."""

NEAREST_OF_PATH = K // 2
"""Servers that each of several disjoint paths must hear from, whatever the others have found."""

MAX_QUERIES_OF_PATH = 60
MAX_QUERIES = 256
RECORD_QUORUM = 3
"""Servers that must have returned the same, highest sequence before a lookup on one path ends early."""


class Responder(NamedTuple):
    """A server that answered, and the token that a PUT to it needs."""

    contact: Contact
    token: bytes


@dataclass(frozen=True, slots=True)
class LookupResult:
    """closest: all servers that answered, nearest first. put_set: where a record of the target belongs.
    record: the one with the highest sequence that was returned."""

    target: Key
    closest: tuple[Responder, ...]
    put_set: tuple[Responder, ...]
    record: Record | None


class Lookup:
    """One lookup; bounded in candidates (256), requests (60 a path, 256) and time.

    record: the one with the highest sequence so far, of use before the lookup is done. seeds: the nearest
    contacts of the routing table. paths: disjoint paths, each asking its own candidates, so that one liar
    taints one path only. radius: distance from the target within which K servers should be (0: unknown).
    excluded: never asked; our own key. Times are monotonic seconds.
    """

    def __init__(
        self,
        target: Key,
        seeds: Sequence[TrackedContact],
        *,
        want_record: bool,
        paths: int = PATHS_NORMAL,
        radius: int = 0,
        excluded: Collection[Key] = (),
    ) -> None:
        self.target = target
        self.want_record = want_record
        self.record: Record | None = None
        self._paths = paths
        self._radius = radius
        self._queries = 0
        self._holders: Counter[int] = Counter()  # by sequence
        self._max_queries = min(MAX_QUERIES, paths * MAX_QUERIES_OF_PATH)
        self._shortlist = Shortlist(target, excluded)
        nearest_first = sorted(seeds, key=lambda seed: distance(seed.key, target))
        for position, seed in enumerate(nearest_first):
            candidate = self._shortlist.add(seed.to_wire(), path=position % paths, source=None)
            if candidate is not None:
                candidate.timeout = seed.rtt.timeout

    # Outgoing

    def next_queries(self, now: float) -> list[Contact]:
        """Whom to send FIND to now, at which address. Call it after every on_...() and at the deadline."""
        self._run_timers(now)
        if self._has_quorum():
            return []
        waiting = Counter(each.path for each in self._shortlist if each.state is State.WAITING)
        queries: list[Contact] = []
        for candidate in self._wanted():
            if self._queries < self._max_queries and waiting[candidate.path] < ALPHA:
                place = self._shortlist.next_place(candidate)
                if place is not None:
                    queries.append(self._ask(candidate, place, now))
                    waiting[candidate.path] += 1
        return queries

    def next_deadline(self) -> float | None:
        """When a request becomes slow or is given up; None: nothing is in flight."""
        times = (
            candidate.slow_at if candidate.state is State.WAITING else candidate.give_up_at
            for candidate in self._shortlist
            if candidate.in_flight
        )
        return min(times, default=None)

    def is_known(self, key: Key) -> bool:
        """Whether a server has been heard where it is asked now, or was before this lookup."""
        candidate = self._shortlist.get(key)
        return candidate is not None and not candidate.place.sources

    def only_source_of(self, key: Key) -> Key | None:
        """Who alone has named a candidate; None: several did, or we knew it before."""
        candidate = self._shortlist.get(key)
        sources = candidate.place.sources if candidate is not None else []
        return sources[0] if len(sources) == 1 else None

    def is_waiting_for(self, key: Key) -> bool:
        candidate = self._shortlist.get(key)
        return candidate is not None and candidate.in_flight

    def may_repeat(self, key: Key) -> bool:
        """Whether one more datagram may go to a server that has not been heard there."""
        candidate = self._shortlist.get(key)
        trial = candidate.place.trial if candidate is not None else None
        return trial is None or trial.pay()

    # Incoming

    def on_alive(self, key: Key, timeout: float, now: float) -> None:
        """A server that was asked is there; it answers the question after this. timeout: seconds after which
        that would be slow."""
        candidate = self._shortlist.get(key)
        if candidate is None or not candidate.in_flight:
            return
        _prove(candidate.place)
        candidate.state = State.WAITING
        candidate.slow_at = now + timeout
        candidate.give_up_at = now + RETRY_S

    def on_response(
        self,
        key: Key,
        source: Address,
        contacts: Sequence[Contact],
        *,
        token: bytes,
        record: Record | None,
    ) -> None:
        """NODES of a server that was asked; anybody else's is ignored.

        source: where it answered from. record: the one it returned, if its signature is valid.
        """
        record_len = len(record.encoded) if record is not None else 0
        candidate = self._shortlist.get(key)
        if candidate is None or not candidate.tries or candidate.state is State.ANSWERED:
            return
        candidate.state = State.ANSWERED
        candidate.token = token
        _prove(candidate.place)
        self._shortlist.credit.earn(key, contacts, record_len)
        for contact in contacts[:MAX_CONTACTS]:
            if is_private(source) or not is_private(contact.address):
                self._shortlist.add(contact, path=candidate.path, source=key)
        if record is not None and record.key == self.target:
            self._holders[record.sequence] += 1
            if self.record is None or record.sequence > self.record.sequence:
                self.record = record

    def on_failure(self, key: Key) -> None:
        """The request to a server could not be sent, or it is known to be gone."""
        candidate = self._shortlist.get(key)
        if candidate is not None and candidate.in_flight:
            self._give_up(candidate)

    def on_unsent(self, key: Key) -> None:
        """Nothing may be sent to where it is asked now, for reasons outside of this lookup, for which nobody
        is to blame: it is asked where else it may be, if at all."""
        candidate = self._shortlist.get(key)
        if candidate is None or not candidate.in_flight:
            return
        if candidate.place.trial is not None:
            candidate.place.trial.withdrawn()
        if len(candidate.places) > 1:
            candidate.places.remove(candidate.place)
            candidate.place = candidate.places[0]
            candidate.state = State.FRESH
        else:
            candidate.state = State.DEAD

    # The end

    @property
    def done(self) -> bool:
        if self._has_quorum():
            return True
        if self._queries >= self._max_queries and not any(each.in_flight for each in self._shortlist):
            return True
        late = () if self.record is None else (State.SLOW,)  # somebody has it: who is slow is not waited for
        return all(candidate.state is State.ANSWERED for candidate in self._required(without=late))

    def result(self) -> LookupResult:
        """What is known so far; final once done."""
        unanswered = (State.FRESH, State.WAITING, State.SLOW)
        answered = [candidate for candidate in self._shortlist if candidate.state is State.ANSWERED]
        region = self._shortlist.region(self._radius, without=unanswered)
        return LookupResult(
            self.target, tuple(map(_responder, answered)), tuple(map(_responder, region)), self.record
        )

    # Inside

    def _has_quorum(self) -> bool:
        if self.record is None or self._paths > 1:
            return False
        return self._holders[self.record.sequence] >= RECORD_QUORUM

    def _required(self, *, without: Collection[State] = ()) -> Iterator[Candidate]:
        """Those whose answers end the lookup: the region of the target, and on each disjoint path its own
        nearest, so that no path stops because another one's contacts look nearer."""
        yield from self._shortlist.region(self._radius, without=without)
        if self._paths > 1:
            counts = [0] * self._paths
            for candidate in self._shortlist.ranked():
                if candidate.state not in without and counts[candidate.path] < NEAREST_OF_PATH:
                    counts[candidate.path] += 1
                    yield candidate

    def _wanted(self) -> list[Candidate]:
        """Those to ask, in order: what is required, with others in the place of slow ones; again those that
        stayed silent only after all others, which may have more of a claim to what credit is left."""
        required = self._required(without=(State.SLOW,))
        fresh = {candidate.key: candidate for candidate in required if candidate.state is State.FRESH}
        return sorted(fresh.values(), key=lambda candidate: candidate.tries)

    def _ask(self, candidate: Candidate, place: Place, now: float) -> Contact:
        self._queries += 1
        self._shortlist.begin(candidate, place)
        candidate.state = State.WAITING
        candidate.slow_at = now + candidate.timeout
        candidate.give_up_at = now + RETRY_S
        return candidate.contact

    def _run_timers(self, now: float) -> None:
        for candidate in list(self._shortlist):
            if candidate.in_flight and candidate.give_up_at <= now:
                self._give_up(candidate)
            elif candidate.state is State.WAITING and candidate.slow_at <= now:
                candidate.state = State.SLOW

    def _give_up(self, candidate: Candidate) -> None:
        """Try once more, at the next address that somebody gave; after that it is dead. Those who named the
        address lose credit."""
        if candidate.place.trial is not None:
            candidate.place.trial.failed()
        candidate.state = State.FRESH if candidate.may_be_tried else State.DEAD


def _prove(place: Place) -> None:
    if place.trial is not None:
        place.trial.answered()
        place.trial = None
    place.sources.clear()


def _responder(candidate: Candidate) -> Responder:
    return Responder(candidate.contact, candidate.token)
