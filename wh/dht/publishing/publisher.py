"""Our own endpoint record: built, signed, put where it belongs, and kept there (docs/protocol.md 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wh.dht.kademlia import Kademlia
from wh.dht.lookups.lookup import PATHS_CAREFUL, PATHS_NORMAL, LookupResult, Responder
from wh.dht.lookups.search import Search, SearchCallbacks
from wh.dht.lookups.searches import Searches
from wh.dht.table.metric import K
from wh.engine.core import Engine
from wh.engine.events import Instant, Key
from wh.engine.randomness import jittered
from wh.engine.requests import Answer, Requests
from wh.engine.timers import Alarm
from wh.wire.address import Address
from wh.wire.candidates import Candidate, NatProfile
from wh.wire.messages import Put, PutAck, PutStatus
from wh.wire.records import MAX_LIFETIME_S, Record, Relay, next_sequence

LIFETIME_S = 3600
REPUBLISH_S = LIFETIME_S / 2
FEW_SERVERS = 3
"""With fewer there is no redundancy: each new one should hold our record at once, and one that restarts has
forgotten us, which nobody else makes good."""

FEW_SERVERS_REPUBLISH_S = 60.0
CHANGE_INTERVAL_S = 60.0
EAGER_PUBLICATIONS = 3
"""Until this many were made, a change is published at once: after the start we learn of new addresses."""

RETRY_AFTER_S = (2.0, 5.0, 15.0, 60.0)


@dataclass(frozen=True, slots=True)
class Content:
    """What a record says. flags: RecordFlag bits. relays_until: Unix seconds at which the first of our
    reservations there ends."""

    candidates: tuple[Candidate, ...]
    nat: NatProfile
    flags: int
    relays: tuple[Relay, ...] = ()
    relays_until: int | None = None


class Publisher:
    """Publishes what content() says, at start, on change, and again before it is forgotten.

    The lookup that a publication begins with is also the one that Kademlia asks of a node that joins;
    looked_up gets its result."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        kademlia: Kademlia,
        searches: Searches,
        *,
        content: Callable[[], Content],
        looked_up: Callable[[LookupResult, Instant], None],
        is_server: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._searches = searches
        self._content = content
        self._looked_up = looked_up
        self._is_server = is_server
        self._record: Record | None = None
        self._signed_content: Content | None = None
        self._signed_at = float("-inf")
        self._sequence = 0
        self._publications = 0
        self._published_at = float("-inf")
        self._failures = 0
        self._put_to = 0  # servers that the last publication went to
        self._unanswered = 0  # of them, those still to acknowledge
        self._holders = 0  # of them, those that have the record
        self._search: Search | None = None
        self._stale = False  # something changed while the search ran
        self._newcomers: set[Key] = set()  # servers met while the search ran
        self._next = Alarm(engine.timers)
        self._foreign_until = float("-inf")  # when the last record of ours that is not from here has ended
        self._elsewhere = False

    @property
    def published(self) -> bool:
        """At least one server holds our latest record."""
        return self._holders > 0

    @property
    def sequence(self) -> int:
        """Of our latest record; 0 before the first."""
        return self._sequence

    @property
    def elsewhere(self) -> bool:
        """Another node publishes under our key, so that others reach one of the two at most."""
        return self._elsewhere

    def changed(self, now: Instant) -> None:
        """There is something new to say, or somebody new to say it to."""
        if self._search is not None:
            self._stale = True
            return
        eager = self._publications < EAGER_PUBLICATIONS
        when = now.monotonic if eager else max(now.monotonic, self._published_at + CHANGE_INTERVAL_S)
        self._next.set_by(when, self._publish)

    def server_found(self, key: Key, now: Instant) -> None:
        """Somebody new could hold our record, which matters while few can."""
        if self._search is not None:
            self._newcomers.add(key)
        elif self._put_to < FEW_SERVERS:
            self.changed(now)

    def content_changed(self, now: Instant) -> None:
        """As changed(), unless the record says just that already."""
        if self._content() != self._signed_content:
            self.changed(now)

    def _publish(self, now: Instant) -> None:
        if not self._kademlia.joined:
            self._put_to = 0  # the first server that answers makes us try again
            return
        content = self._content()
        if self._record is None and not (content.candidates or content.relays):
            return  # as soon as there is something to say we hear of it
        self._stale = False
        self._newcomers.clear()
        self._publications += 1
        self._published_at = now.monotonic
        careful = len(self._kademlia.table) > K
        self._search = self._searches.begin(
            self._engine.key,
            now,
            SearchCallbacks(done=self._put_everywhere),
            want_record=self._record is not None,  # one of before a restart is no news
            have_sequence=self._sequence,
            paths=PATHS_CAREFUL if careful else PATHS_NORMAL,
        )

    def _put_everywhere(self, result: LookupResult, now: Instant) -> None:
        self._search = None
        self._holders = 0
        holders = {responder.contact.key for responder in result.put_set}
        self._stale = self._stale or (len(holders) < FEW_SERVERS and not self._newcomers <= holders)
        self._looked_up(result, now)
        self._compare(result.record, now)
        record = self._sign(now)
        if record is not None:
            self._put_locally(record, now)
            self._put_to = self._unanswered = len(result.put_set)
            for responder in result.put_set:
                self._put(responder, record, now)
        if self._stale:
            self._stale = False
            self.changed(now)
        else:
            self._schedule_next(bool(result.put_set), now)

    def _compare(self, found: Record | None, now: Instant) -> None:
        """With one that only our key can have signed, after what we have signed here."""
        if found is not None and found.sequence > self._sequence:
            self._foreign_until = now.monotonic + LIFETIME_S
            self._outbid(found.sequence)
        self._elsewhere = now.monotonic < self._foreign_until

    def _outbid(self, sequence: int) -> None:
        self._sequence = sequence
        self._signed_content = None

    def _sign(self, now: Instant) -> Record | None:
        """The latest record, a new one where that is old or wrong; None where there is nothing to say."""
        content = self._content()
        fresh = content == self._signed_content and now.monotonic - self._signed_at < REPUBLISH_S
        if fresh or (self._record is None and not (content.candidates or content.relays)):
            return self._record
        self._sequence = next_sequence(self._sequence, now.unix)
        unsigned = Record(
            self._engine.key,
            self._sequence,
            _expiry(content, now),
            flags=content.flags,
            candidates=content.candidates,
            relays=content.relays,
            nat=content.nat,
        )
        self._record = self._kademlia.sign_record(unsigned)
        self._signed_content, self._signed_at = content, now.monotonic
        return self._record

    def _put_locally(self, record: Record, now: Instant) -> None:
        """We are a server like others: whoever asks us about ourselves gets an answer."""
        if self._is_server():
            nearer = self._kademlia.table.count_nearer(record.key)
            self._kademlia.store.put(record, self._own_source(record), nearer_servers=nearer, unix=now.unix)

    def _own_source(self, record: Record) -> Address:
        return record.candidates[0].address if record.candidates else bytes(18)

    def _put(self, responder: Responder, record: Record, now: Instant) -> None:
        path = self._engine.addressing.path_to(responder.contact.address)
        self._requests.start(
            responder.contact.key,
            [path] if path is not None else [],
            Put(0, responder.token, record.encoded),
            now,
            on_answer=self._acknowledged,
            on_failure=self._put_failed,
        )

    def _acknowledged(self, answer: Answer, now: Instant) -> None:
        """A server that holds a higher sequence knows us from before a restart, when our clock was ahead."""
        if not isinstance(answer.message, PutAck):
            return
        self._unanswered -= 1
        status = answer.message.status
        if status == PutStatus.STORED:
            self._holders += 1
            self._failures = 0
        elif status == PutStatus.OUTDATED and self._sequence < answer.message.stored_sequence <= _highest(
            now
        ):
            self._outbid(answer.message.stored_sequence)
            self.changed(now)

    def _put_failed(self, now: Instant) -> None:
        self._unanswered -= 1
        if not self._unanswered and not self._holders:
            self._schedule_next(False, now)

    def _schedule_next(self, any_server: bool, now: Instant) -> None:
        if not any_server:
            after = RETRY_AFTER_S[min(self._failures, len(RETRY_AFTER_S) - 1)]
            self._failures += 1
        else:
            after = REPUBLISH_S if self._put_to >= FEW_SERVERS else FEW_SERVERS_REPUBLISH_S
        self._next.set(now.monotonic + jittered(self._engine.rng, after), self._publish)


def _expiry(content: Content, now: Instant) -> int:
    """A record that names relays ends with the first reservation."""
    full = int(now.unix) + LIFETIME_S
    return full if content.relays_until is None else min(full, content.relays_until)


def _highest(now: Instant) -> int:
    """The highest sequence that a server can hold of us: it refuses what a clock further ahead has made."""
    return int((now.unix + MAX_LIFETIME_S) * 1000)
