"""Whether a path that data missed an answer on is dead: a PROBE there tells (docs/protocol.md section 7)."""

from __future__ import annotations

from collections.abc import Callable

from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.requests import Answer, Request, Requests, Schedule
from wh.paths.routes import Routes
from wh.wire.messages import Probe

SUSPECT_FOR_S = 3.0
"""A path that stays silent this long is dead."""


class Silence:
    """Looks into one silence at a time. heard(path, now): the path works after all; confirmed(path, now): it
    is dead. The routes learn what the PROBE measures."""

    def __init__(
        self,
        key: Key,
        engine: Engine,
        requests: Requests,
        routes: Routes,
        *,
        heard: Callable[[Path, Instant], None],
        confirmed: Callable[[Path, Instant], None],
    ) -> None:
        self._key = key
        self._engine = engine
        self._requests = requests
        self._routes = routes
        self._heard = heard
        self._confirmed = confirmed
        self._received = -1  # packets, when the first path last fell silent
        self._probe: Request | None = None

    def concerns(self, path: Path) -> bool:
        """Whether data is expected on that path, and its silence is not looked into yet."""
        return path in self._routes.in_use and self._probe is None

    def begin(self, path: Path, received: int, now: Instant) -> None:
        """received: packets that the peer sent so far."""
        one_way, self._received = received == self._received, received
        number = int.from_bytes(self._engine.rng.randbytes(4), "little")
        self._probe = self._requests.start(
            self._key,
            [path],
            Probe(0, number, number),
            now,
            on_answer=lambda answer, then: self._answered(answer, one_way, then),
            on_failure=lambda then: self._unanswered(path, then),
            schedule=_schedule(self._routes.silence_s),
            speculative=bool(self._routes.second),
        )

    def ended(self, path: Path) -> None:
        """The path is no more: neither is its silence."""
        if self._probe is not None and self._probe.paths == [path]:
            self.stop()

    def stop(self) -> None:
        self._requests.cancel(self._probe)
        self._probe = None

    def _answered(self, answer: Answer, one_way: bool, now: Instant) -> None:
        at_once = self._probe is not None and self._probe.sends == 1
        self._probe = None
        self._routes.add_round_trip(answer.path, answer.rtt)
        self._routes.heard_again(at_once=at_once, one_way=one_way)
        self._heard(answer.path, now)

    def _unanswered(self, path: Path, now: Instant) -> None:
        self._probe = None
        self._confirmed(path, now)


def _schedule(silence_s: float) -> Schedule:
    """Again after the time that was too long already, then with growing pauses."""
    after = [silence_s]
    while (following := 2 * after[-1]) < SUSPECT_FOR_S:
        after.append(following)
    return Schedule(tuple(each for each in after if each < SUSPECT_FOR_S), SUSPECT_FOR_S)
