"""How far clocks seem to be apart, by when nodes of the network file have signed their records."""

from __future__ import annotations

import statistics
from collections import OrderedDict
from typing import NamedTuple

from wh.engine.events import Instant, Key
from wh.wire.records import CLOCK_SKEW_S

KEYS_MAX = 256
RECENT_S = 4000.0
"""So long a record's word counts: public nodes' are looked up each half hour."""

STEP_S = 60.0
"""Our own clock was set by more since: what was found out before says nothing."""


class _Word(NamedTuple):
    """ahead_s: of us, 0 where a record was in its time. steady: our clock against monotonic time."""

    ahead_s: float
    at: float
    steady: float


class Clocks:
    """Only signed records of keys that the network file names count. Who passes on an old one can make our
    clock seem fast; so few say nothing against more, and of others only what is ahead is told."""

    def __init__(self) -> None:
        self._words: OrderedDict[Key, _Word] = OrderedDict()

    def signed(self, key: Key, sequence: int, now: Instant, *, timely: bool) -> None:
        """sequence: milliseconds of Unix time when the record was made. timely: it is accepted."""
        ahead_s = sequence / 1000 - now.unix
        if timely and ahead_s <= CLOCK_SKEW_S:
            ahead_s = 0.0
        self._words[key] = _Word(ahead_s, now.monotonic, now.unix - now.monotonic)
        self._words.move_to_end(key)
        if len(self._words) > KEYS_MAX:
            self._words.popitem(last=False)

    def slow_s(self, now: Instant) -> float | None:
        """How much our own clock is behind (below 0: ahead); None where more agree with it than differ, or
        nobody says."""
        words = self._recent(now)
        others = [word.ahead_s for word in words.values() if word.ahead_s]
        return statistics.median(others) if 2 * len(others) > len(words) else None

    def fast(self, now: Instant) -> dict[Key, float]:
        """Whose clock is ahead of ours, by so many seconds, while ours is right."""
        if self.slow_s(now) is not None:
            return {}
        return {key: word.ahead_s for key, word in self._recent(now).items() if word.ahead_s > 0}

    def _recent(self, now: Instant) -> dict[Key, _Word]:
        steady = now.unix - now.monotonic
        return {
            key: word
            for key, word in self._words.items()
            if now.monotonic - word.at < RECENT_S and abs(word.steady - steady) < STEP_S
        }
