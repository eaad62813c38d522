"""What users ask of a running node: `wh lookup` and `wh ping`, answered by Notify."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wh.dht.lookups.lookup import LookupResult
from wh.dht.lookups.search import Search, SearchCallbacks
from wh.dht.lookups.searches import Searches
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.inquiry import Finish, Progress, error
from wh.engine.requests import CANDIDATES, Answer, Request, Requests
from wh.wire.address import to_text
from wh.wire.records import Record

# Codes of errors, as users see them.
NOT_FOUND = "WH320"
NO_ANSWER = "WH321"


class LookupInquiry:
    """Result: found, candidates, relays (keys), hops, elapsed_ms. Progress: asked, closest_bucket."""

    def __init__(self, key: Key, searches: Searches, progress: Progress, finish: Finish) -> None:
        self._key = key
        self._searches = searches
        self._progress = progress
        self._finish = finish
        self._search: Search | None = None

    def start(self, now: Instant) -> None:
        def progress(_: Instant) -> None:
            if self._search is not None:
                self._progress({"asked": self._search.asked, "closest_bucket": self._search.closest_bucket})

        def done(result: LookupResult, then: Instant) -> None:
            self._finish(self._body(result.record, 1000 * (then.monotonic - now.monotonic)))

        callbacks = SearchCallbacks(done=done, progress=progress)
        self._search = self._searches.begin(self._key, now, callbacks, want_record=True)

    def cancel(self) -> None:
        if self._search is not None:
            self._search.cancel()

    def _body(self, record: Record | None, elapsed_ms: float) -> dict[str, Any]:
        return {
            "found": record is not None,
            "candidates": [to_text(each.address) for each in record.candidates] if record else [],
            "relays": [relay.key for relay in record.relays] if record else [],
            "hops": self._search.hops if self._search is not None else 0,
            "elapsed_ms": elapsed_ms,
        }


class PingInquiry:
    """One control round trip to any node: where it is known to be, and where its record says.

    Result: endpoint, rtt_ms, via (a relay's key, or None); or error.
    """

    def __init__(
        self,
        key: Key,
        engine: Engine,
        requests: Requests,
        searches: Searches,
        known_paths: Sequence[Path],
        relay_of: Callable[[Key, Path], Key | None],
        finish: Finish,
    ) -> None:
        self._key = key
        self._engine = engine
        self._requests = requests
        self._searches = searches
        self._known_paths = tuple(known_paths)
        self._relay_of = relay_of
        self._finish = finish
        self._request: Request | None = None
        self._search: Search | None = None
        self._tried = False

    def start(self, now: Instant) -> None:
        if self._known_paths:
            self._ping(self._known_paths, now, self._look_up)
        else:
            self._look_up(now)

    def cancel(self) -> None:
        self._requests.cancel(self._request)
        if self._search is not None:
            self._search.cancel()

    def _ping(self, paths: Sequence[Path], now: Instant, on_failure: Callable[[Instant], None]) -> None:
        self._tried = True
        peer = self._engine.peers.obtain(self._key)
        self._request = self._requests.start(
            self._key,
            paths,
            self._engine.echo(),
            now,
            on_answer=self._answered,
            on_failure=on_failure,
            schedule=None if peer.session else CANDIDATES,
        )

    def _answered(self, answer: Answer, now: Instant) -> None:
        endpoint = to_text(answer.path.remote)
        via = self._relay_of(self._key, answer.path)
        self._finish({"endpoint": endpoint, "rtt_ms": 1000 * answer.rtt, "via": via})

    def _look_up(self, now: Instant) -> None:
        callbacks = SearchCallbacks(done=self._looked_up)
        self._search = self._searches.begin(self._key, now, callbacks, want_record=True)

    def _looked_up(self, result: LookupResult, now: Instant) -> None:
        published = [each.address for each in result.record.candidates] if result.record is not None else []
        addressing = self._engine.addressing
        paths = addressing.paths_to(filter(addressing.is_acceptable, published))
        if paths:
            self._ping(paths, now, self._failed)
        else:
            self._failed(now)

    def _failed(self, now: Instant) -> None:
        if self._tried:
            self._finish(error(NO_ANSWER, "the peer does not answer", "is its daemon running?"))
        else:
            hint = (
                "it has published no address that others can reach: it must open the path, or is not running"
            )
            self._finish(error(NOT_FOUND, "no address of the peer is known", hint))
