"""Where servers see the node's socket at different addresses, a second one tells what its NAT does with ports
(docs/protocol.md section 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from wh.engine.core import Engine
from wh.engine.events import Instant, Key
from wh.engine.requests import Requests
from wh.engine.timers import Callback, Timer
from wh.nat.behavior import PortUse, judge_fresh_socket
from wh.nat.sampling import Sample, Sampling
from wh.wire.address import Address

PATIENCE_S = 1.0
RETRY_AFTER_S = 2.0
RETRIES = 2
CLOSE_AFTER_S = 1.0
"""Servers challenge the new address of their client; whoever does not answer loses its session."""


class SecondSocket:
    """One verdict for each address family, kept until the next or clear(). changed is called with each."""

    def __init__(self, engine: Engine, requests: Requests, changed: Callable[[Instant], None]) -> None:
        self._engine = engine
        self._requests = requests
        self._changed = changed
        self._verdicts: dict[int, PortUse] = {}
        self._running: dict[int, Sampling] = {}
        self._retries: dict[int, Timer] = {}

    def verdict(self, family: int) -> PortUse | None:
        return self._verdicts.get(family)

    def measure(self, family: int, witnesses: Sequence[tuple[Key, Address]], now: Instant) -> None:
        """Nothing happens while a measurement runs, or where nothing can be compared. witnesses: in different
        networks. Where fewer than two of them answer it is made again, twice at most."""
        if family not in self._running and family not in self._retries and len(witnesses) > 1:
            self._measure(family, witnesses, RETRIES, now)

    def _measure(
        self, family: int, witnesses: Sequence[tuple[Key, Address]], retries: int, now: Instant
    ) -> None:
        self._retries.pop(family, None)
        again = partial(self._measure, family, witnesses, retries - 1) if retries else None
        self._running[family] = Sampling(
            self._engine,
            self._requests,
            witnesses,
            now,
            lambda sample, then: self._sampled(family, sample, again, then),
            family=family,
            at_once=len(witnesses),
            wanted=len(witnesses),
            patience_s=PATIENCE_S,
        )

    def forget(self, family: int) -> None:
        self._verdicts.pop(family, None)

    def clear(self) -> None:
        self._verdicts.clear()
        for sampling in self._running.values():
            sampling.cancel()
        for timer in self._retries.values():
            timer.cancel()
        self._running.clear()
        self._retries.clear()

    def _sampled(self, family: int, sample: Sample | None, again: Callback | None, now: Instant) -> None:
        self._running.pop(family, None)
        if sample is None:
            return
        self._engine.timers.call_at(
            now.monotonic + CLOSE_AFTER_S, lambda then: self._engine.sockets.close(sample.socket)
        )
        if len(sample.observed) < 2 and again is not None:
            self._retries[family] = self._engine.timers.call_at(now.monotonic + RETRY_AFTER_S, again)
        elif len(sample.observed) >= 2 or family not in self._verdicts:
            self._verdicts[family] = judge_fresh_socket(sample.observed)
            self._changed(now)
