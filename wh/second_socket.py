"""Where servers see the node's socket at different addresses, a second one tells what its NAT does with ports
(docs/protocol.md section 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wh.engine import Engine
from wh.events import Instant, Key
from wh.nat.behavior import PortUse, judge_fresh_socket
from wh.requests import Requests
from wh.sampling import Sample, Sampling
from wh.wire.address import Address

PATIENCE_S = 1.0
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

    def verdict(self, family: int) -> PortUse | None:
        return self._verdicts.get(family)

    def is_measuring(self, family: int) -> bool:
        return family in self._running

    def measure(self, family: int, witnesses: Sequence[tuple[Key, Address]], now: Instant) -> None:
        """Nothing happens while a measurement runs, or where nothing can be compared. witnesses: in different
        networks."""
        if family in self._running or len(witnesses) < 2:
            return
        self._running[family] = Sampling(
            self._engine,
            self._requests,
            witnesses,
            now,
            lambda sample, then: self._sampled(family, sample, then),
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
        self._running.clear()

    def _sampled(self, family: int, sample: Sample | None, now: Instant) -> None:
        self._running.pop(family, None)
        if sample is None:
            return
        self._engine.timers.call_at(
            now.monotonic + CLOSE_AFTER_S, lambda then: self._engine.sockets.close(sample.socket)
        )
        if len(sample.observed) >= 2 or family not in self._verdicts:
            self._verdicts[family] = judge_fresh_socket(sample.observed)
            self._changed(now)
