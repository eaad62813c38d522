"""Agreeing with a peer on one of several paths that work: NOMINATE (docs/protocol.md section 7)."""

from __future__ import annotations

from collections.abc import Callable

from wh.engine.commands import Send
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.timers import Alarms
from wh.wire.messages import Nominate

SAID_AFTER_S = (0.0, 0.3, 1.0)
"""NOMINATE has no answer, so it is said three times."""


class Nomination:
    """The lower key decides. first(): the path that data takes now."""

    def __init__(self, key: Key, engine: Engine, first: Callable[[], Path | None]) -> None:
        self.is_ours = engine.key < key
        self._key = key
        self._engine = engine
        self._first = first
        self._epoch = 0
        self._alarms = Alarms(engine.timers)

    def say(self, path: Path, now: Instant) -> None:
        """This is the path now, if it is ours to say; as long as data takes it."""
        self.stop()
        if not self.is_ours:
            return
        self._epoch += 1
        message = Nominate(0, self._epoch)

        def say(_: Instant) -> None:
            if self._first() == path and self._engine.peers.obtain(self._key).session:
                self._engine.emit(Send(self._key, path, message))

        for after in SAID_AFTER_S:
            self._alarms.add(now.monotonic + after, say)

    def heard(self, epoch: int) -> bool:
        """Whether the peer's word counts: it decides, and has said nothing newer."""
        if self.is_ours or epoch < self._epoch:
            return False
        self._epoch = epoch
        return True

    def restart(self) -> None:
        """The peer begins to count anew: there is a new session."""
        if not self.is_ours:
            self._epoch = 0

    def stop(self) -> None:
        self._alarms.cancel()
