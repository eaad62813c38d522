"""Token buckets by name, in a table of bounded size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

DEFAULT_ENTRIES_MAX = 4096


class RateLimit:
    """Allows `burst` at once and then one each `interval_s` seconds, for each name apart.

    The table forgets the name that was used longest ago. A forgotten name starts with a full burst, so where
    names are cheap to invent a second limit over all of them is needed."""

    def __init__(self, burst: int, interval_s: float, entries_max: int = DEFAULT_ENTRIES_MAX) -> None:
        self._burst = burst
        self._interval_s = interval_s
        self._entries_max = entries_max
        self._entries: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # name -> tokens, at

    def __len__(self) -> int:
        return len(self._entries)

    def allow(self, name: Hashable, now: float) -> bool:
        """Take one token of `name`. now: monotonic seconds."""
        tokens, at = self._entries.pop(name, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - at) / self._interval_s)
        allowed = tokens >= 1
        self._entries[name] = (tokens - 1 if allowed else tokens, now)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
        return allowed


class RecentlySeen:
    """Which names were noted within the last `lifetime_s` seconds, in a table of bounded size."""

    def __init__(self, lifetime_s: float, entries_max: int = DEFAULT_ENTRIES_MAX) -> None:
        self._lifetime_s = lifetime_s
        self._entries_max = entries_max
        self._noted: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, name: Hashable, now: float) -> None:
        self._noted[name] = now
        self._noted.move_to_end(name)
        if len(self._noted) > self._entries_max:
            self._noted.popitem(last=False)

    def seen(self, name: Hashable, now: float) -> bool:
        at = self._noted.get(name)
        return at is not None and now - at < self._lifetime_s
