"""Which of its paths a peer's data takes: what the data plane is told, and when (docs/protocol.md 7)."""

from __future__ import annotations

from collections.abc import Callable

from wh.engine.commands import ClearSilence, PathMode, Route, SetDataPaths
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.rtt import RttEstimator
from wh.engine.timers import Alarm

SILENCE_MIN_S = 0.1
SILENCE_MAX_S = 2.0
SILENCE_UNKNOWN_S = 0.5
"""Before the first round trip on a path was measured."""

SILENCE_CHANGE = 0.1
"""A change by less than this share is not worth telling the data plane."""

UNKNOWN_VARIATION = 1 / 16
"""Of a path that was measured once, as a share of its round trip."""

ALIKE_S = 0.01
ALIKE_SHARE = 0.25
"""Flows are split over channels whose round trips differ by no more than that."""

OVERLAP_MIN_S = 0.2
OVERLAP_MAX_S = 2.0


class Routes:
    """A direct path, if there is one, before the channels; of all these the first two carry data. One on
    trial (wh.paths.migration) gets all data too.

    keepalive_s: WireGuard's persistent keepalive of a direct path, in seconds."""

    def __init__(self, key: Key, engine: Engine, keepalive_s: Callable[[], int]) -> None:
        self._key = key
        self._engine = engine
        self._keepalive_s = keepalive_s
        self._direct: Path | None = None
        self._trial: Path | None = None
        self._channels: list[Path] = []
        self._mtus: dict[Path, int] = {}
        self._round_trips: dict[Path, RttEstimator] = {}
        self._patience = 1
        self._split = False
        self._overlap = Alarm(engine.timers)
        self._told = SetDataPaths(key)

    @property
    def direct(self) -> Path | None:
        return self._direct

    @property
    def channels(self) -> tuple[Path, ...]:
        """The one in use first."""
        return tuple(self._channels)

    @property
    def first(self) -> Path | None:
        """Where data goes."""
        return next(iter(self._ordered()), None)

    @property
    def second(self) -> Path | None:
        return next(iter(self._ordered()[1:]), None)

    @property
    def in_use(self) -> tuple[Path, ...]:
        """What the peer's data is expected on."""
        return tuple(self._ordered()[: 2 if self._mode is PathMode.SPLIT else 1])

    def mtu(self, path: Path) -> int:
        """Bytes of an IP datagram; 0: not known."""
        return self._mtus.get(path, 0)

    def round_trip_s(self, path: Path) -> float | None:
        """Smoothed; None before the first sample."""
        estimator = self._round_trips.get(path)
        return estimator.srtt if estimator is not None else None

    @property
    def silence_s(self) -> float:
        """How long a path in use may be silent while data waits for an answer: max(100 ms, 1.5 srtt + 4
        var), doubled each time that this proved too impatient for traffic in one direction, which has no
        answers."""
        expected = max(map(self._answer_expected_s, self.in_use), default=SILENCE_UNKNOWN_S)
        return min(SILENCE_MAX_S, expected * self._patience)

    def _answer_expected_s(self, path: Path) -> float:
        estimator = self._round_trips.get(path)
        if estimator is None or estimator.srtt is None:
            return SILENCE_UNKNOWN_S
        return max(SILENCE_MIN_S, 1.5 * estimator.srtt + 4 * estimator.rttvar)

    # What changes

    def set_direct(self, path: Path | None, now: Instant, rtt: float = 0.0) -> None:
        """Data goes to the new path, and for a moment still to what was first before. rtt: seconds of a round
        trip on it; 0: not known."""
        before = self.first
        if self._direct is not None and self._direct != path:
            self._forget(self._direct)
        self._direct, self._trial = path, None
        if path is not None and rtt > 0.0:
            self._sample(path, rtt)
        self._switched(before, now)

    def set_trial(self, path: Path | None) -> None:
        """A path that the direct one may have moved to; None: it has not."""
        if self._direct is not None and path != self._trial:
            self._trial = path
            self._tell()

    def add_channel(self, path: Path, now: Instant) -> None:
        if path not in self._channels:
            self._channels.append(path)
            self._tell()

    def remove_channel(self, path: Path, now: Instant) -> None:
        if path in self._channels:
            before = self.first
            self._channels.remove(path)
            self._forget(path)
            if self.first != before:
                self._switched(before, now)
            else:
                self._tell()

    def prefer_channel(self, path: Path, now: Instant) -> None:
        """Use this one before the others."""
        if path in self._channels and self._channels[0] != path:
            before = self.first
            self._channels.remove(path)
            self._channels.insert(0, path)
            self._switched(before, now)

    def demote_channel(self, path: Path, now: Instant) -> None:
        """Use the others before this one."""
        if path in self._channels[:-1]:
            before = self.first
            self._channels.remove(path)
            self._channels.append(path)
            self._switched(before, now)

    def split(self, wanted: bool) -> None:
        """Flows may use two channels that are alike, where there is no direct path."""
        if wanted != self._split:
            self._split = wanted
            self._tell()

    def clear(self) -> None:
        """There is no way to the peer."""
        self._round_trips.clear()
        self._mtus.clear()
        self._direct = self._trial = None
        self._channels = []
        self._overlap.cancel()
        self._tell()

    def add_round_trip(self, path: Path, rtt: float) -> None:
        """A request on that path was answered after rtt seconds."""
        if path in self._ordered():
            self._sample(path, rtt)
            self._tell()

    def set_mtu(self, path: Path, mtu: int) -> None:
        self._mtus[path] = mtu
        self._tell()

    def heard_again(self, *, at_once: bool, one_way: bool) -> None:
        """A path in use answers after all; at_once: already the first PROBE, so the silence was none.
        one_way: the peer has sent no data since the silence before, so it may just have none to send, and we
        are more patient from now on. Where it has, a conversation paused: who spoke last heard nothing."""
        if not one_way:
            self._patience = 1
        elif at_once:
            self._patience = min(2 * self._patience, 16)
        self._engine.emit(ClearSilence(self._key))
        self._tell()

    def tell_again(self) -> None:
        """The data plane asks for a path that it was told of, or the peer is new to it."""
        self._told = SetDataPaths(self._key)
        self._tell()

    # Telling

    def _ordered(self) -> list[Path]:
        direct = [path for path in (self._direct, self._trial) if path is not None]
        return direct + self._channels

    @property
    def _mode(self) -> PathMode:
        if self._trial is not None or (self._overlap.pending and len(self._ordered()) > 1):
            return PathMode.DUPLICATE
        return PathMode.SPLIT if self._split and self._has_two_alike() else PathMode.PRIMARY

    def _has_two_alike(self) -> bool:
        times = [self.round_trip_s(path) for path in self._channels[:2] if self._direct is None]
        known = [each for each in times if each is not None]
        return len(known) == 2 and max(known) - min(known) <= max(ALIKE_S, ALIKE_SHARE * min(known))

    def _switched(self, before: Path | None, now: Instant) -> None:
        """The first path is another. The peer may still be on the former one, and the new one may not carry
        everything yet: both get all data for max(2 round trips, 200 ms)."""
        self._patience = 1
        self._overlap.cancel()
        if before is not None and before in self._ordered()[1:] and self.first != before:
            for_s = max(OVERLAP_MIN_S, 2 * (self.round_trip_s(before) or 0.0))
            when = now.monotonic + min(for_s, OVERLAP_MAX_S)
            self._overlap.set(when, self._overlap_over)
        self._tell()
        if before is not None and self.first is not None:
            self._engine.emit(ClearSilence(self._key))  # that of the former one says nothing of it

    def _overlap_over(self, now: Instant) -> None:
        self._tell()

    def _sample(self, path: Path, rtt: float) -> None:
        """To be too impatient costs some duplicates, so little variation is assumed before any was seen."""
        if path in self._round_trips:
            self._round_trips[path].add_sample(rtt)
            return
        self._round_trips[path] = estimator = RttEstimator()
        estimator.add_sample(rtt)
        estimator.rttvar = rtt * UNKNOWN_VARIATION

    def _forget(self, path: Path) -> None:
        self._round_trips.pop(path, None)
        self._mtus.pop(path, None)

    def _tell(self) -> None:
        wanted = self._wanted()
        told = self._told
        same = (wanted.routes, wanted.mode, wanted.keepalive_s) == (told.routes, told.mode, told.keepalive_s)
        close = abs(wanted.silence_s - told.silence_s) <= SILENCE_CHANGE * told.silence_s
        if not (same and close):
            self._told = wanted
            self._engine.emit(wanted)

    def _wanted(self) -> SetDataPaths:
        routes = tuple(Route(path, self.mtu(path)) for path in self._ordered()[:2])
        return SetDataPaths(
            self._key,
            routes,
            self._mode,
            self.silence_s if routes else 0.0,
            self._keepalive_s() if self._direct is not None else 0,
        )
