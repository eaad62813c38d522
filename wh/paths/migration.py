"""Whether a peer has moved to where its packets come from (docs/protocol.md section 7).

They may also be copies, made on the way by somebody who is faster than they are: then the peer still sends
on its old path, and says so when it is asked there (RFC 9000 9.3.3). Who only copies cannot stop it.
So nothing is given up before the old path is silent. To wait for that costs nothing: data takes both paths
meanwhile."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.requests import Answer, Request, Requests, Schedule
from wh.engine.timers import Alarm
from wh.wire.messages import Challenge, ChallengeWant

ASKED_FOR_S = 3.0
"""How long a former path may still say that it is the right one."""

FORMER_MAX = 3
PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 32.0
"""Until packets from elsewhere are looked at again after they were found to be copies; twice as long each
time."""


class Mover(Protocol):
    """Whose path it is (wh.paths.whereabouts)."""

    @property
    def path(self) -> Path | None: ...

    def on_trial(self, path: Path | None, now: Instant) -> None:
        """Data takes this path too; None: no more."""

    def moved(self, path: Path, rtt: float, now: Instant) -> None:
        """The peer is there: at the new path, or after all at the former one. rtt: seconds, 0: not known."""


class Migration:
    def __init__(self, key: Key, engine: Engine, requests: Requests, mover: Mover) -> None:
        self._key = key
        self._engine = engine
        self._requests = requests
        self._mover = mover
        self._new: Path | None = None
        self._rtt = 0.0
        self._proof: Request | None = None  # whether anybody is at the new path
        self._end_of_trial = Alarm(engine.timers)
        self._former: dict[Path, Request] = {}  # whether the peer is there after all
        self._patience_until = float("-inf")
        self._pause_s = PAUSE_FIRST_S
        self._not_before = float("-inf")

    def seen_at(self, path: Path, now: Instant, *, proved: bool) -> None:
        """Authenticated packets come from there, and not on the path in use. proved: lately, the peer or
        whoever forwards to it has answered there."""
        old = self._mover.path
        busy = self._new is not None or path in self._former or len(self._former) >= FORMER_MAX
        if busy or old is None or now.monotonic < self._not_before:
            return
        self._new, self._rtt = path, 0.0
        if self._engine.peers.obtain(self._key).session:
            self._ask(old, now)
        if proved:
            self._try(now)
            return
        self._proof = self._requests.prove(
            self._key, path, now, on_answer=self._proved, on_failure=self._unproved
        )

    def distrust_no_more(self) -> None:
        """The path in use fell silent: what comes from elsewhere may be right."""
        self._pause_s = PAUSE_FIRST_S
        self._not_before = float("-inf")

    def stop(self) -> None:
        for request in self._former.values():
            self._requests.cancel(request)
        self._former.clear()
        self._end_trial()

    # The new path

    def _proved(self, answer: Answer, now: Instant) -> None:
        self._proof = None
        if answer.path == self._new:
            self._rtt = answer.rtt
            self._try(now)
        else:
            self._new = None

    def _unproved(self, now: Instant) -> None:
        self._proof = self._new = None

    def _try(self, now: Instant) -> None:
        old = self._mover.path
        if old is not None and old not in self._former:
            self._ask(old, now)
        self._mover.on_trial(self._new, now)
        when = max(now.monotonic, self._patience_until)
        self._end_of_trial.set(when, self._decide)

    def _decide(self, now: Instant) -> None:
        """The old path has not answered in time; it may still do so later."""
        new, self._new = self._new, None
        if new is not None:
            self._mover.moved(new, self._rtt, now)

    def _end_trial(self) -> None:
        self._requests.cancel(self._proof)
        self._end_of_trial.cancel()
        self._proof = self._new = None

    # Former paths

    def _ask(self, path: Path, now: Instant) -> None:
        patience_s = self._engine.peers.obtain(self._key).round_trip.timeout
        self._patience_until = now.monotonic + patience_s
        again = [patience_s / 3]
        while 3 * again[-1] < ASKED_FOR_S:
            again.append(3 * again[-1])
        self._requests.cancel(self._former.get(path))  # asked anew, where it was left and came back
        self._former[path] = self._requests.start(
            self._key,
            [path],
            Challenge(0, self._engine.nonce(), ChallengeWant.DATA),
            now,
            on_answer=partial(self._answered, path),
            on_failure=partial(self._silent, path),
            schedule=Schedule(tuple(again), ASKED_FOR_S),
            speculative=True,
        )

    def _answered(self, path: Path, answer: Answer, now: Instant) -> None:
        """The peer sends there. What came from elsewhere were copies."""
        self._former.pop(path)
        self.stop()
        self._not_before = now.monotonic + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        if self._mover.path == path:
            self._mover.on_trial(None, now)
        elif self._mover.path is not None:
            self._mover.moved(path, answer.rtt, now)

    def _silent(self, path: Path, now: Instant) -> None:
        del self._former[path]
        if not self._former:
            self._pause_s = PAUSE_FIRST_S
