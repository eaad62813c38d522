"""Everything the engine wants done later, in one heap."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from wh.engine.events import Instant

Callback = Callable[[Instant], None]

_COMPACT_ABOVE = 64


class Timer:
    """One scheduled call. cancel() is idempotent, and harmless after the call."""

    __slots__ = ("_order", "callback", "when")

    def __init__(self, when: float, order: int, callback: Callback) -> None:
        self.when = when
        self._order = order
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None

    @property
    def pending(self) -> bool:
        return self.callback is not None

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self._order) < (other.when, other._order)


class Timers:
    """Calls back in order of time, and of scheduling where times are equal."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._scheduled = 0
        self._compact_at = _COMPACT_ABOVE

    def __len__(self) -> int:
        return sum(timer.pending for timer in self._heap)

    def call_at(self, when: float, callback: Callback) -> Timer:
        """when: monotonic seconds; a time in the past means the next run_due()."""
        if len(self._heap) >= self._compact_at:
            self._compact()
        self._scheduled += 1
        timer = Timer(when, self._scheduled, callback)
        heapq.heappush(self._heap, timer)
        return timer

    def next_deadline(self) -> float | None:
        while self._heap and not self._heap[0].pending:
            heapq.heappop(self._heap)
        return self._heap[0].when if self._heap else None

    def run_due(self, now: Instant) -> None:
        """Run what was due when this began; what a callback adds waits for the next run."""
        due: list[Timer] = []
        while self._heap and self._heap[0].when <= now.monotonic:
            due.append(heapq.heappop(self._heap))
        for timer in due:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback(now)

    def _compact(self) -> None:
        """Most requests are answered, so most timers are cancelled long before their time."""
        self._heap = [timer for timer in self._heap if timer.pending]
        heapq.heapify(self._heap)
        self._compact_at = max(_COMPACT_ABOVE, 2 * len(self._heap))


class Alarm:
    """One call at most: what is set takes the place of what was set before."""

    __slots__ = ("_timer", "_timers")

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._timer: Timer | None = None

    @property
    def pending(self) -> bool:
        return self._timer is not None and self._timer.pending

    def set(self, when: float, callback: Callback) -> None:
        """when: monotonic seconds."""
        self.cancel()
        self._timer = self._timers.call_at(when, callback)

    def set_by(self, when: float, callback: Callback) -> None:
        """No later than `when`: what is set for an earlier time stays."""
        if self._timer is None or not self._timer.pending or when < self._timer.when:
            self.set(when, callback)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Alarms:
    """Any number of calls, which are cancelled together."""

    __slots__ = ("_pending", "_timers")

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._pending: list[Timer] = []

    def add(self, when: float, callback: Callback) -> None:
        """when: monotonic seconds."""
        self._pending.append(self._timers.call_at(when, callback))

    def cancel(self) -> None:
        for timer in self._pending:
            timer.cancel()
        self._pending.clear()
