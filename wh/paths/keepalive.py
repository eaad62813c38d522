"""Keeping a direct path, and its NATs' mappings, alive: PINGs after silence (docs/protocol.md section 7)."""

from __future__ import annotations

from collections.abc import Callable

from wh.engine.core import Engine
from wh.engine.events import Instant, Key
from wh.engine.randomness import jittered
from wh.engine.requests import Answer, Request, Requests, Schedule
from wh.engine.timers import Alarm
from wh.paths.routes import Routes

KEEPALIVE_S = 20.0
PING = Schedule((2.0, 4.0), 5.0)
"""A path dies after three PINGs without an answer."""


class Keepalive:
    """failed(now): the direct path is dead."""

    def __init__(
        self,
        key: Key,
        engine: Engine,
        requests: Requests,
        routes: Routes,
        failed: Callable[[Instant], None],
    ) -> None:
        self._key = key
        self._engine = engine
        self._requests = requests
        self._routes = routes
        self._failed = failed
        self._ping: Request | None = None
        self._next = Alarm(engine.timers)

    def start(self, now: Instant) -> None:
        """The direct path was heard just now."""
        self._next.set(now.monotonic + jittered(self._engine.rng, KEEPALIVE_S), self._due)

    def check(self, now: Instant) -> None:
        """Find out now whether the direct path works, if that is not being found out already."""
        if self._ping is None:
            self._send(now)

    def stop(self) -> None:
        self._requests.cancel(self._ping)
        self._ping = None
        self._next.cancel()

    def _due(self, now: Instant) -> None:
        """Silence is what needs a PING; one side's PINGs keep the path for both."""
        heard_at = self._engine.peers.obtain(self._key).heard_at
        quiet_at = now.monotonic if heard_at is None else heard_at + KEEPALIVE_S * 0.8
        if quiet_at > now.monotonic and not self._routes.channels:
            self._next.set(quiet_at, self._due)
        else:
            self.check(now)

    def _send(self, now: Instant) -> None:
        if self._routes.direct is None:
            return
        self._ping = self._requests.start(
            self._key,
            [self._routes.direct],
            self._engine.echo(),
            now,
            on_answer=self._answered,
            on_failure=self._unanswered,
            schedule=PING,
            speculative=bool(self._routes.channels),
        )

    def _answered(self, answer: Answer, now: Instant) -> None:
        self._ping = None
        self._routes.add_round_trip(answer.path, answer.rtt)
        self.start(now)

    def _unanswered(self, now: Instant) -> None:
        self._ping = None
        self._failed(now)
