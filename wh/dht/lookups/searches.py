"""All lookups of this node: begun, queued where too many run, and used to fill the routing table."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from wh.dht.kademlia import Kademlia
from wh.dht.lookups.lookup import PATHS_NORMAL, Lookup, LookupResult
from wh.dht.lookups.search import Search, SearchCallbacks
from wh.dht.table.metric import K
from wh.engine.core import Engine
from wh.engine.events import Instant, Key
from wh.engine.requests import Requests
from wh.engine.unproved import Cause
from wh.wire.records import Record

RUNNING_MAX = 16


class Searches:
    """At most RUNNING_MAX at once; further ones wait for their turn. Who begins them bounds their number."""

    def __init__(self, engine: Engine, requests: Requests, kademlia: Kademlia) -> None:
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._running: set[Search] = set()
        self._waiting: deque[Search] = deque()

    def __len__(self) -> int:
        return len(self._running) + len(self._waiting)

    def begin(
        self,
        target: Key,
        now: Instant,
        callbacks: SearchCallbacks,
        *,
        want_record: bool,
        have_sequence: int = 0,
        paths: int = PATHS_NORMAL,
        cause: Cause = Cause.NAMED,
    ) -> Search:
        """Look up `target`; no callback runs before this returns."""
        table = self._kademlia.table
        table.on_lookup(target, now.monotonic)
        lookup = Lookup(
            target,
            table.closest(target, K),
            want_record=want_record,
            paths=paths,
            radius=self._kademlia.size.radius,
            excluded=(self._engine.key,),
        )
        search = Search(
            self._engine,
            self._requests,
            self._kademlia,
            lookup,
            callbacks,
            have_sequence=have_sequence,
            cause=cause,
            ended=self._ended,
        )
        self._waiting.append(search)
        self._engine.timers.call_at(now.monotonic, self._start_waiting)
        return search

    def find_record(
        self,
        key: Key,
        now: Instant,
        *,
        have_sequence: int,
        found: Callable[[Record, Instant], None],
        done: Callable[[Instant], None],
        cause: Cause = Cause.NAMED,
    ) -> Search:
        """The search that a TrustedPeer asks for (wh.paths.finder.RecordFinder)."""

        def finished(_: LookupResult, then: Instant) -> None:
            done(then)

        callbacks = SearchCallbacks(done=finished, found=found)
        return self.begin(key, now, callbacks, want_record=True, have_sequence=have_sequence, cause=cause)

    def _start_waiting(self, now: Instant) -> None:
        while self._waiting and len(self._running) < RUNNING_MAX:
            search = self._waiting.popleft()
            self._running.add(search)
            search.start(now)

    def _ended(self, search: Search) -> None:
        self._running.discard(search)
        if search in self._waiting:
            self._waiting.remove(search)
        if self._waiting:
            self._engine.timers.call_at(0.0, self._start_waiting)
