"""From relayed to direct: attempts at hole punching while channels carry data (docs/protocol.md 7)."""

from __future__ import annotations

from typing import Protocol

from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.randomness import jittered
from wh.engine.timers import Alarm, Callback
from wh.paths.channels import PeerChannels
from wh.paths.routes import Routes
from wh.paths.states import ON_CHANNELS, PathInput, PathState, PeerPath

UPGRADE_AFTER_S = (5.0, 15.0, 60.0)
"""Pauses between attempts to make a relayed path direct; the last goes on."""


class Puncher(Protocol):
    """Hole punching (wh.punch.punching)."""

    def begin(self, peer: Key, channel: Path, now: Instant) -> None: ...

    def cancel(self, peer: Key) -> None: ...

    def why_not(self, peer: Key) -> str:
        """Why the last attempt failed, or none is made; empty where there was none."""


class Upgrades:
    """more_channels(now): a further attempt begins; another relay may do better than those there are."""

    def __init__(
        self,
        key: Key,
        engine: Engine,
        machine: PeerPath,
        routes: Routes,
        channels: PeerChannels,
        puncher: Puncher,
        more_channels: Callback,
    ) -> None:
        self._key = key
        self._engine = engine
        self._machine = machine
        self._routes = routes
        self._channels = channels
        self._puncher = puncher
        self._more_channels = more_channels
        self._count = 0
        self._next = Alarm(engine.timers)

    @property
    def why_relayed(self) -> str:
        """Empty where the path is direct, or there is none."""
        return self._puncher.why_not(self._key) if self._machine.state in ON_CHANNELS else ""

    def first_channel(self, now: Instant) -> None:
        """Data goes on a channel now, and the first attempt is soon."""
        self._count = 0
        self._schedule(now)

    def channel_answered(self, path: Path, now: Instant) -> None:
        """Who opened it makes the first attempt as soon as it works."""
        if self._count == 0 and self._channels.opened_by_us(path):
            self._attempt(now)

    def links_changed(self, now: Instant) -> None:
        """Our own addresses changed: what failed may work now."""
        if self._machine.state is PathState.RELAYED:
            self._count = 0
            self._attempt(now)

    def dropped(self, now: Instant) -> None:
        """The direct path is lost, and this side knows it."""
        self._count = 1
        self._attempt(now)

    def peer_began(self) -> None:
        self._machine.step(PathInput.PUNCH)

    def ended(self, now: Instant) -> None:
        """The next attempt's pause begins now: this one may have taken longer than that."""
        self._machine.step(PathInput.PUNCHED)
        if self._machine.state is PathState.RELAYED:
            self._schedule(now)

    def stop(self) -> None:
        """No more attempts; one that runs goes on."""
        self._next.cancel()

    def cancel(self) -> None:
        self._puncher.cancel(self._key)

    def _schedule(self, now: Instant) -> None:
        after = UPGRADE_AFTER_S[min(max(self._count - 1, 0), len(UPGRADE_AFTER_S) - 1)]
        self._next.set(now.monotonic + jittered(self._engine.rng, after), self._attempt)

    def _attempt(self, now: Instant) -> None:
        """Try what may be reachable, and punch; who opened the channel begins."""
        if self._machine.state is not PathState.RELAYED:
            return
        self._count += 1
        self._schedule(now)
        again = self._count > 1
        if again:
            self._more_channels(now)
        first = self._routes.first
        if first is not None and (self._channels.opened_by_us(first) or again):
            self._machine.step(PathInput.PUNCH)
            self._puncher.begin(self._key, first, now)
