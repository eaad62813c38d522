"""What a server does in the DHT for its clients over TCP, which reach few servers (docs/protocol.md 5).

A client's FIND of a record that we do not hold becomes a lookup of ours, and its answer waits for that. The
client's own record we also put where it belongs. Both within limits: an errand is dear, and asking for it is
cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wh.dht.kademlia import Kademlia
from wh.dht.lookups.lookup import LookupResult
from wh.dht.lookups.search import SearchCallbacks
from wh.dht.lookups.searches import Searches
from wh.engine.core import Engine
from wh.engine.events import TCP, Instant, Key, MessageReceived, Path
from wh.engine.limits import Level, RecentlySeen, Shares
from wh.engine.requests import Requests
from wh.engine.timers import Timer
from wh.engine.unproved import Cause
from wh.wire.messages import Find, FindWant, Put
from wh.wire.records import Record

RUNNING_MAX = 32
OF_NETWORK, OF_LARGE_NETWORK = Level(24, 48, 16, 2.0), Level(16, 32, 32, 1.0)
BURST, INTERVAL_S = 64, 1 / 16
"""Errands for the clients of one network, and for all. A node looks up its peers, and each of them again
after 1, 2, 5, 15 and 30 s."""

BETTER_WITHIN_S = 0.2
"""So long after the first record a better one is waited for."""

PUBLISH_INTERVAL_S = 30.0

AnswerFind = Callable[[MessageReceived, Find, "Record | None", Instant], None]


@dataclass(slots=True)
class Errand:
    """A lookup for a client. asked: its latest FIND for that key, which gets the answer."""

    asked: MessageReceived
    find: Find
    record: Record | None = None
    timer: Timer | None = None


class Errands:
    """answer(asked, find, record, now): tell the client what was found, once for each key that it asked
    for."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        kademlia: Kademlia,
        searches: Searches,
        is_server: Callable[[], bool],
        answer: AnswerFind,
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._searches = searches
        self._is_server = is_server
        self._answer = answer
        self._running: dict[tuple[Key, Key], Errand] = {}  # client, target
        self._shares = Shares((OF_NETWORK, OF_LARGE_NETWORK), BURST, INTERVAL_S)
        self._published = RecentlySeen(PUBLISH_INTERVAL_S)  # client, sequence

    def find(self, event: MessageReceived, find: Find, now: Instant) -> bool:
        """Whether the answer comes later: from answer()."""
        if not find.want & FindWant.RECORD or event.first_contact or not self._serves(event.path):
            return False
        name = event.peer, find.key
        if name in self._running:
            self._running[name].asked, self._running[name].find = event, find
            return True
        if len(self._running) >= RUNNING_MAX or not self._shares.allow(event.path.remote, now.monotonic):
            return False
        self._running[name] = Errand(event, find)
        self._searches.find_record(
            find.key,
            now,
            have_sequence=find.have_sequence,
            found=lambda record, then: self._found(name, record, then),
            done=lambda then: self._finish(name, then),
            cause=Cause.ERRAND,
        )
        return True

    def publish(self, event: MessageReceived, record: Record, now: Instant) -> bool:
        """Put a client's own record where it belongs. False where we do not."""
        if record.key != event.peer or not self._serves(event.path):
            return False
        name = record.key, record.sequence
        if self._published.seen(name, now.monotonic):
            return True
        if not self._shares.allow(event.path.remote, now.monotonic):
            return False
        self._published.note(name, now.monotonic)
        done = SearchCallbacks(done=lambda result, then: self._put(result, record, then))
        self._searches.begin(record.key, now, done, want_record=False, cause=Cause.ERRAND)
        return True

    def _serves(self, path: Path) -> bool:
        """Whether it leads to a client, not to a server that we ourselves reach over TCP."""
        is_client = path.socket == TCP and self._engine.addressing.path_to(path.remote) != path
        return is_client and self._is_server()

    def _found(self, name: tuple[Key, Key], record: Record, now: Instant) -> None:
        errand = self._running.get(name)
        if errand is None:
            return
        errand.record = record
        if errand.timer is None:
            when = now.monotonic + BETTER_WITHIN_S
            errand.timer = self._engine.timers.call_at(when, lambda then: self._finish(name, then))

    def _finish(self, name: tuple[Key, Key], now: Instant) -> None:
        """The search may go on; what it finds later the client gets when it asks again."""
        errand = self._running.pop(name, None)
        if errand is None:
            return
        if errand.timer is not None:
            errand.timer.cancel()
        self._answer(errand.asked, errand.find, errand.record, now)

    def _put(self, result: LookupResult, record: Record, now: Instant) -> None:
        for responder in result.put_set:
            path = self._engine.addressing.path_to(responder.contact.address)
            if path is not None:
                message = Put(0, responder.token, record.encoded)
                self._requests.start(responder.contact.key, [path], message, now)
