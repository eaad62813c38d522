"""Whom not to ask again yet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

ENTRIES_MAX = 256


class Backoff:
    """Growing pauses for each name, in seconds, in a table of bounded size. The last pause goes on."""

    def __init__(self, pauses_s: tuple[float, ...]) -> None:
        self._pauses_s = pauses_s
        self._failures: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()  # count, not before

    def __len__(self) -> int:
        return len(self._failures)

    def __contains__(self, name: Hashable) -> bool:
        """Whether it failed last time."""
        return name in self._failures

    def failed(self, name: Hashable, now: float) -> None:
        """now: monotonic seconds."""
        count, _ = self._failures.pop(name, (0, now))
        self._failures[name] = (count + 1, now + self._pauses_s[min(count, len(self._pauses_s) - 1)])
        if len(self._failures) > ENTRIES_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, name: Hashable) -> None:
        self._failures.pop(name, None)

    def may_try(self, name: Hashable, now: float) -> bool:
        return now >= self._failures.get(name, (0, now))[1]
