"""Token buckets by name, and by network, in tables of bounded size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from wh.wire.address import Address, prefix

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


class Level(NamedTuple):
    """A bucket of its own for each network with prefixes of this length, in whole bytes."""

    v4_bits: int
    v6_bits: int
    burst: int
    interval_s: float


class _Buckets:
    """Those of one level. Only buckets that are not full are kept."""

    def __init__(self, level: Level, entries_max: int) -> None:
        self._level = level
        self._entries_max = entries_max
        self._entries: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # network -> tokens, at

    def __len__(self) -> int:
        return len(self._entries)

    def tokens(self, address: Address, now: float) -> float:
        burst = float(self._level.burst)
        tokens, at = self._entries.get(self._network(address), (burst, now))
        return min(burst, tokens + (now - at) / self._level.interval_s)

    def take(self, address: Address, tokens: float, now: float) -> None:
        """tokens: what tokens() said."""
        network = self._network(address)
        self._entries[network] = max(0.0, tokens - 1), now
        self._entries.move_to_end(network)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)

    def _network(self, address: Address) -> bytes:
        return prefix(address, self._level.v4_bits, self._level.v6_bits)


class Shares:
    """A token bucket that networks share. Each has buckets of its own besides, and the emptier these are, the
    more it must leave in the common one, up to half: a crowd keeps nobody out who asks seldom, unless it has
    so many networks that each of them does. strict: an empty bucket of its own stops a network in any case.

    No table can be flushed: the common bucket bounds how many others are not full, and to forget a full one
    changes nothing. Attempts that fail take nothing."""

    def __init__(
        self, levels: Sequence[Level], burst: int, interval_s: float, *, strict: bool = True
    ) -> None:
        self._levels = [
            (level, _Buckets(level, burst + int(level.burst * level.interval_s / interval_s) + 1))
            for level in levels
        ]
        self._burst = float(burst)
        self._interval_s = interval_s
        self._least_own = 1.0 if strict else 0.0
        self._tokens, self._at = self._burst, 0.0

    def __len__(self) -> int:
        return sum(len(buckets) for _, buckets in self._levels)

    def allow(self, address: Address, now: float) -> bool:
        """Take one token for that address. now: monotonic seconds."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._interval_s)
        self._at = now
        own = [buckets.tokens(address, now) for _, buckets in self._levels]
        left = min(tokens / level.burst for (level, _), tokens in zip(self._levels, own, strict=True))
        if min(own) < self._least_own or self._tokens < 1 + (1 - left) * self._burst / 2:
            return False
        self._tokens -= 1
        for (_, buckets), tokens in zip(self._levels, own, strict=True):
            buckets.take(address, tokens, now)
        return True


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
