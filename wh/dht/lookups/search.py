"""One Kademlia lookup in flight: wh.dht.lookups.lookup decides whom to ask, this asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wh.dht.kademlia import Kademlia
from wh.dht.lookups.lookup import Lookup, LookupResult
from wh.dht.table.metric import bucket_index
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.requests import Answer, Request, Requests, Schedule
from wh.engine.timers import Alarm
from wh.engine.unproved import Cause
from wh.wire.errors import BadRecord
from wh.wire.messages import MAX_CONTACTS, Contact, Find, FindWant, Nodes
from wh.wire.records import Record, decode_header_untrusted

ASK = Schedule((0.4, 0.9), 1.4)
FIRST_CONTACT = Schedule((0.5,), 1.4)
"""Given up just before the lookup does (lookup.RETRY_S): silence counts against the contact."""


def _ignore(*_: object) -> None:
    """For callbacks that nobody needs."""


@dataclass(frozen=True, slots=True)
class SearchCallbacks:
    """found: each better record as it comes in. progress: after each answer. done: unless cancelled."""

    done: Callable[[LookupResult, Instant], None]
    found: Callable[[Record, Instant], None] = _ignore
    progress: Callable[[Instant], None] = _ignore


class Search:
    """hops: length of the chain of answers that led to the record; 0 where we held it ourselves.

    closest_bucket: bucket index between the target and the nearest server that answered; 0 before the first.
    """

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        kademlia: Kademlia,
        lookup: Lookup,
        callbacks: SearchCallbacks,
        *,
        have_sequence: int,
        cause: Cause,
        ended: Callable[[Search], None],
    ) -> None:
        self.hops = 0
        self.closest_bucket = 0
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._lookup = lookup
        self._callbacks = callbacks
        self._have_sequence = have_sequence
        self._cause = cause
        self._ended = ended
        self._over = False
        self._depths: dict[Key, int] = {}
        self._asked: dict[Key, Request] = {}
        self._next = Alarm(engine.timers)

    @property
    def target(self) -> Key:
        return self._lookup.target

    @property
    def asked(self) -> int:
        """Servers asked so far."""
        return len(self._asked)

    def start(self, now: Instant) -> None:
        stored = self._kademlia.store.get(self.target, now.unix)
        if stored is not None:
            self._take_record(stored.encoded, now, 0)
        self._advance(now)

    def cancel(self) -> None:
        """No callback follows. Idempotent."""
        if not self._over:
            self._stop()

    def _advance(self, now: Instant) -> None:
        """Ask whoever is next; end when there is nobody left to ask or to wait for."""
        if self._over:
            return
        unsent = True
        while unsent:  # where nothing can be sent others are asked instead
            sent = [self._ask(contact, now) for contact in self._lookup.next_queries(now.monotonic)]
            unsent = not all(sent)
        deadline = self._lookup.next_deadline()
        if self._lookup.done or deadline is None:
            self._next.set(now.monotonic, self._finish)
        else:
            self._next.set(deadline, self._advance)

    def _ask(self, contact: Contact, now: Instant) -> bool:
        """Whether anything was sent."""
        path = self._engine.addressing.path_to(contact.address)
        self._kademlia.note_source(contact.key, self._lookup.only_source_of(contact.key))
        if path is None or not self._engine.addressing.is_acceptable(contact.address):
            self._lookup.on_unsent(contact.key)
            return False
        self._requests.cancel(self._asked.get(contact.key))
        if self._may_find(contact.key, path, now):
            self._find(contact.key, path, now, or_ping=True)
            return True
        return self._ping(contact.key, path, now)

    def _may_find(self, key: Key, path: Path, now: Instant) -> bool:
        """At once, without a PING: an INIT has no forward secrecy, and may tell whom we look up to nodes of
        the file only; and a FIND is too long for where nothing is proved."""
        peers = self._engine.peers
        may_know = peers.is_pinned(key) or peers.obtain(key).session
        return may_know and self._requests.unproved.is_proved(key, path, now)

    def _ping(self, key: Key, path: Path, now: Instant) -> bool:
        """A first contact, and whether it was sent. Where only others say that the key is there, silence is
        nothing to count."""
        ping = self._engine.echo(self._kademlia.capabilities())
        request = self._requests.start(
            key,
            [path],
            ping,
            now,
            schedule=FIRST_CONTACT,
            on_answer=lambda answer, then: self._alive(key, path, then),
            on_failure=lambda then: self._failed(key, then),
            speculative=not self._lookup.is_known(key),
            cause=self._cause,
            may_repeat=lambda: self._lookup.may_repeat(key),
        )
        self._asked[key] = request
        if not request.tried:
            self._requests.cancel(request)
            self._lookup.on_unsent(key)
        return bool(request.tried)

    def _alive(self, key: Key, path: Path, now: Instant) -> None:
        self._lookup.on_alive(key, self._engine.peers.obtain(key).round_trip.timeout, now.monotonic)
        self._find(key, path, now)
        self._advance(now)

    def _find(self, key: Key, path: Path, now: Instant, *, or_ping: bool = False) -> None:
        """or_ping: where there turns out to be no session any more a PING makes one, within the same time."""
        want = FindWant.NODES | (FindWant.RECORD if self._lookup.want_record else 0)
        self._asked[key] = self._requests.start(
            key,
            [path],
            Find(0, self.target, self._have_sequence, MAX_CONTACTS, want),
            now,
            schedule=ASK,
            on_answer=lambda answer, then: self._answered(key, answer, then),
            on_failure=lambda then: self._find_failed(key, path, or_ping, then),
        )

    def _find_failed(self, key: Key, path: Path, or_ping: bool, now: Instant) -> None:
        session = self._engine.peers.obtain(key).session
        if or_ping and not session and self._lookup.is_waiting_for(key):
            self._ping(key, path, now)
        else:
            self._failed(key, now)

    def _answered(self, key: Key, answer: Answer, now: Instant) -> None:
        nodes = answer.message
        if not isinstance(nodes, Nodes):
            return
        depth = self._depths.setdefault(key, 1)
        for contact in nodes.contacts:
            self._depths.setdefault(contact.key, depth + 1)
        record = self._take_record(nodes.record, now, depth)
        source = answer.path.remote
        self._lookup.on_response(key, source, nodes.contacts, token=nodes.token, record=record)
        self.closest_bucket = max(self.closest_bucket, bucket_index(self.target, key))
        self._callbacks.progress(now)
        self._advance(now)

    def _failed(self, key: Key, now: Instant) -> None:
        self._lookup.on_failure(key)
        self._advance(now)

    def _take_record(self, encoded: bytes | None, now: Instant, depth: int) -> Record | None:
        """The record if it is the target's and valid; the callback hears of it where it is news."""
        best = self._lookup.record
        if encoded is None or not self._lookup.want_record:
            return None
        if best is not None and encoded == best.encoded:
            return best
        try:
            if decode_header_untrusted(encoded).key != self.target:
                return None
            record = self._kademlia.decode_record_untrusted(encoded, now)
        except BadRecord:
            return None
        if record.sequence > max(self._have_sequence, best.sequence if best is not None else 0):
            self._lookup.record = record
            self.hops = depth
            self._callbacks.found(record, now)
        return record

    def _finish(self, now: Instant) -> None:
        self._stop()
        self._callbacks.done(self._lookup.result(), now)

    def _stop(self) -> None:
        self._over = True
        self._next.cancel()
        for request in self._asked.values():
            self._requests.cancel(request)
        self._ended(self)
