"""The channels between us and one trusted peer, at relays (docs/protocol.md 7, 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.randomness import jittered
from wh.engine.requests import Answer, Request, Requests, Schedule
from wh.engine.timers import Alarm, Timer
from wh.paths.mtu import PathMtu
from wh.relay.choosing import Channel
from wh.wire.records import Relay

CHANNELS_MAX = 4
"""What a pair accepts where both sides opened some."""

KEEPALIVE_S = 45.0
"""A relay forgets a channel after 120 s of silence."""

PING = Schedule((0.5, 1.2, 2.5), 4.0)

MEASURED_AFTER_S = (0.5, 0.5, 1.0)
"""Pauses between the PINGs with which both ends measure a channel when it has opened: how long it may be
silent follows from that, and who has not measured it waits longest (wh.paths.routes)."""


class Relays(Protocol):
    """Channels to peers, at relays (wh.relay.reserver)."""

    def open(self, peer: Key, relays: Sequence[Relay], now: Instant) -> None:
        """One more channel, at the best of these relays that has none to the peer."""

    def close(self, path: Path, now: Instant) -> None: ...

    def wanted(self, peer: Key, yes: bool, now: Instant) -> None:
        """Whether data depends on the peer's channels now."""

    def check(self, relay: Key, now: Instant) -> None:
        """Find out now whether this relay hears us, and tell it where we are."""


class User(Protocol):
    """Whose channels they are (wh.paths.trusted)."""

    def channel_answered(self, path: Path, rtt: float | None, now: Instant) -> None:
        """A PING through that channel came back, rtt seconds after it was sent; None where it waited for a
        session to begin."""

    def channel_carries(self, path: Path, mtu: int, now: Instant) -> None:
        """What wh.paths.mtu found."""

    def spare_channels(self, now: Instant) -> Sequence[Path]:
        """Those that are needed no more."""

    def channel_closed(self, path: Path, now: Instant) -> None:
        """That was a spare one."""


class PeerChannels:
    """Those that are open, kept alive by PINGs, and measured."""

    def __init__(
        self,
        key: Key,
        engine: Engine,
        requests: Requests,
        relays: Relays,
        user: User,
    ) -> None:
        self._key = key
        self._engine = engine
        self._requests = requests
        self._relays = relays
        self._user = user
        self._channels: dict[Path, Channel] = {}
        self._pings: dict[Path, Request] = {}
        self._measuring: dict[Path, Timer] = {}
        self._mtus: dict[Path, PathMtu] = {}
        self._next = Alarm(engine.timers)

    def __bool__(self) -> bool:
        return bool(self._channels)

    def admit(self, channel: Channel, now: Instant) -> bool:
        """False where there are too many: then it is closed."""
        if len(self._channels) >= CHANNELS_MAX:
            self._relays.close(channel.path, now)
            return False
        self._channels[channel.path] = channel
        self._measure_after(MEASURED_AFTER_S, channel.path, now)
        self._schedule(now)
        return True

    def remove(self, path: Path) -> None:
        """It has ended."""
        self._channels.pop(path, None)
        self._requests.cancel(self._pings.pop(path, None))
        measuring = self._measuring.pop(path, None)
        if measuring is not None:
            measuring.cancel()
        mtu = self._mtus.pop(path, None)
        if mtu is not None:
            mtu.stop()

    def close_all(self, now: Instant) -> None:
        for path in list(self._channels):
            self.remove(path)
            self._relays.close(path, now)
        self._next.cancel()

    def opened_by_us(self, path: Path) -> bool:
        return path in self._channels and self._channels[path].opened_by_us

    def relay_of(self, path: Path) -> Key | None:
        """Whose channel this is."""
        channel = self._channels.get(path)
        return channel.relay if channel is not None else None

    def check_relays(self, now: Instant) -> None:
        """Our mapping towards them may have moved."""
        for channel in self._channels.values():
            self._relays.check(channel.relay, now)

    def suspected(self, path: Path, now: Instant) -> None:
        """Data is missed there that short messages are not: it may be too long for the channel by now."""
        if path in self._mtus:
            self._mtus[path].suspected(path, now)

    def busy(self, path: Path, now: Instant) -> None:
        """Much is sent there."""
        if path in self._mtus:
            self._mtus[path].busy(path, now)

    def ping(self, path: Path, now: Instant) -> None:
        """Makes the session, measures the way, and keeps the channel open. One at a time."""
        if path in self._pings:
            return

        in_session = self._engine.peers.obtain(self._key).session

        def answered(answer: Answer, then: Instant) -> None:
            del self._pings[path]
            self._measure_mtu(path, then)
            self._user.channel_answered(path, answer.rtt if in_session else None, then)

        def failed(then: Instant) -> None:
            del self._pings[path]

        self._pings[path] = self._requests.start(
            self._key,
            [path],
            self._engine.echo(),
            now,
            on_answer=answered,
            on_failure=failed,
            schedule=PING,
            speculative=True,
        )

    def _measure_mtu(self, path: Path, now: Instant) -> None:
        """Once: PathMtu goes on by itself."""
        if path in self._channels and path not in self._mtus:
            self._mtus[path] = PathMtu(self._key, self._engine, self._requests, self._user.channel_carries)
            self._mtus[path].start(path, now)

    def ping_all(self, now: Instant) -> None:
        for path in self._channels:
            self.ping(path, now)

    def _measure_after(self, pauses: tuple[float, ...], path: Path, now: Instant) -> None:
        def measure(then: Instant) -> None:
            del self._measuring[path]
            self.ping(path, then)
            self._measure_after(pauses[1:], path, then)

        if pauses:
            when = now.monotonic + jittered(self._engine.rng, pauses[0])
            self._measuring[path] = self._engine.timers.call_at(when, measure)

    def _schedule(self, now: Instant) -> None:
        if not self._next.pending:
            when = now.monotonic + jittered(self._engine.rng, KEEPALIVE_S)
            self._next.set(when, self._keep)

    def _keep(self, now: Instant) -> None:
        for path in self._user.spare_channels(now):
            self._relays.close(path, now)
            self._user.channel_closed(path, now)
        self.ping_all(now)
        if self._channels:
            self._schedule(now)
