"""A relay follows its clients to where they say that they are (docs/protocol.md section 8).

A client may still be where it was before: whoever copies its datagrams, and is faster than they are, could
move it so (RFC 9000 9.3.3). Then it goes back, and is not moved so easily for a while."""

from __future__ import annotations

from wh.engine.commands import MoveRelay
from wh.engine.core import Engine
from wh.engine.events import TCP, Instant, Key, Path
from wh.engine.requests import Requests, Schedule
from wh.relay.tables import RelayTables
from wh.wire.messages import Challenge, ChallengeWant

STILL_THERE = Schedule((0.3, 0.9), 2.0)
"""For where a client was before: it was proved, and its answer may get lost."""

FIXED_S = 60.0
"""So long a client whose datagrams somebody forwards is moved only once it is silent where it was."""


class Following:
    def __init__(self, engine: Engine, requests: Requests, tables: RelayTables) -> None:
        self._engine = engine
        self._requests = requests
        self._tables = tables
        self._moved: dict[Key, Path] = {}  # where clients say that they are, who may still be elsewhere

    def follow(self, key: Key, path: Path, now: Instant) -> None:
        """A client has said that it is at `path`. From TCP it goes for good: that is the last resort of a
        client."""
        before = self._tables.path_of(key)
        if before is None or before == path:
            return
        if not self._tables.is_fixed(key, now.monotonic):
            self._move(key, path)
        if before.socket == TCP:
            return
        asking = key in self._moved
        self._moved[key] = path
        if not asking:
            self._ask(key, before, now)

    def _ask(self, key: Key, before: Path, now: Instant) -> None:
        def answered(then: Instant) -> None:
            del self._moved[key]
            self._move(key, before)
            self._tables.fix(key, then.monotonic + FIXED_S)

        def silent(then: Instant) -> None:
            self._move(key, self._moved.pop(key))

        self._requests.start(
            key,
            [before],
            Challenge(0, self._engine.nonce(), ChallengeWant.RELAY),
            now,
            on_answer=lambda answer, then: answered(then),
            on_failure=silent,
            schedule=STILL_THERE,
            speculative=True,
        )

    def _move(self, key: Key, path: Path) -> None:
        for leg in self._tables.move(key, path):
            self._engine.emit(MoveRelay(leg, path))
