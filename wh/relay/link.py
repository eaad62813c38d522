"""One relay that we use: whether it lives, our reservation, our channels (docs/protocol.md section 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from wh.engine.commands import Send
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.randomness import jittered
from wh.engine.requests import Answer, Request, Requests, Schedule
from wh.engine.timers import Alarm
from wh.relay.choosing import Channel
from wh.wire.address import Address
from wh.wire.messages import (
    Capability,
    Close,
    CloseReason,
    Open,
    Opened,
    Pong,
    RelayStatus,
    Reserve,
    Reserved,
)

RESERVATION_S = 3600
PROBE_S = 16.0
PROBE_IN_USE_S = 2.0
"""So long after its last PONG a relay gets a PING, which also keeps our NAT's mapping."""

PROBE = Schedule((2.0, 4.0), 6.0)
"""A relay is lost after three PINGs without an answer; one that is in use sooner, by the measured round
trip."""

RESERVE_ATTEMPTS = 2
CLOCK_SLACK_S = 0.001
RTT_MS_MAX = 0xFFFF


class LinkOwner(Protocol):
    """Who is told what becomes of a relay."""

    def reservation_changed(self, link: RelayLink, status: RelayStatus | None, now: Instant) -> None:
        """OK: made or renewed. Else there is none; None: it does not answer that."""

    def channel_answered(self, link: RelayLink, peer: Key, opened: Opened | None, now: Instant) -> None:
        """What came of open(); None: no answer."""

    def relay_lost(self, link: RelayLink, now: Instant) -> None:
        """It does not answer at all."""


class RelayLink:
    """paths: ours to the relay, at least one; the first that answers is taken. What is asked for waits for
    that, and for a session, which a PING begins."""

    def __init__(
        self, key: Key, paths: Sequence[Path], engine: Engine, requests: Requests, owner: LinkOwner
    ) -> None:
        self.key = key
        self.path, *untried = paths
        self._untried = tuple(untried)  # as long as none has answered
        self.reserved_until: float | None = None  # monotonic
        self.reserved_until_unix = 0
        self.rtt_ms = 0  # when the reservation was made or renewed last
        self.channels: dict[int, Channel] = {}  # by our leg
        self._engine = engine
        self._requests = requests
        self._owner = owner
        self._in_use = False
        self._observed: Address | None = None  # how the relay sees us
        self._heard_at = float("-inf")
        self._to_reserve = False  # these two wait for a session
        self._to_open: dict[Key, None] = {}
        self._reserve_attempts = 0
        self._reserving: Request | None = None
        self._opening: dict[Key, Request] = {}
        self._probe: Request | None = None
        self._next = Alarm(engine.timers)

    @property
    def reserved(self) -> bool:
        return self.reserved_until is not None

    @property
    def reserving(self) -> bool:
        """Asked for, and not answered yet."""
        return self._to_reserve or self._reserving is not None

    @property
    def opening(self) -> list[Key]:
        """To whom channels are asked for, and not answered yet."""
        return [*self._to_open, *self._opening]

    @property
    def unused(self) -> bool:
        return not (self.reserved or self.reserving or self.channels or self.opening)

    @property
    def rtt_s(self) -> float | None:
        return self._engine.peers.obtain(self.key).round_trip.srtt

    def channel_to(self, peer: Key) -> Channel | None:
        return next((channel for channel in self.channels.values() if channel.peer == peer), None)

    # What we want of the relay

    def reserve(self, now: Instant) -> None:
        """Make or renew the reservation; the relay then looks for us where this comes from."""
        self._to_reserve = True
        self._go_on(now)

    def release(self, now: Instant) -> None:
        """We need the reservation no more."""
        self.reserved_until = None
        self._requests.start(self.key, [self.path], Reserve(0, 0), now)

    def open(self, peer: Key, now: Instant) -> None:
        """Ask for a channel, or whether the one that is there still is."""
        if peer not in self._opening:
            self._to_open[peer] = None
        self._go_on(now)

    def close(self, leg: int, reason: CloseReason) -> None:
        self._engine.emit(Send(self.key, self.path, Close(0, leg, reason)))

    def announce(self, now: Instant) -> None:
        """Tell the relay where we are, by asking for what we have."""
        if self.reserved:
            self.reserve(now)
        elif self.channels:
            self.open(next(iter(self.channels.values())).peer, now)
        else:
            self.probe(now)

    def verify(self, now: Instant) -> None:
        """The relay may have forgotten us."""
        if self.reserved:
            self.reserve(now)
        for channel in self.channels.values():
            self.open(channel.peer, now)

    def _go_on(self, now: Instant) -> None:
        if self._untried or not self._engine.peers.obtain(self.key).session:
            self.probe(now)
            return
        if self._to_reserve and self._reserving is None:
            self._start_reserving(now)
        for peer in list(self._to_open):
            self._start_opening(peer, now)

    def _start_reserving(self, now: Instant) -> None:
        self._to_reserve = False
        self._reserve_attempts += 1
        self._reserving = self._start(Reserve(0, RESERVATION_S), now, self._reserved, self._not_reserved)

    def _reserved(self, answer: Answer, now: Instant) -> None:
        self._reserving = None
        self._reserve_attempts = 0
        message = answer.message
        if not isinstance(message, Reserved):
            return
        granted = message.status == RelayStatus.OK and message.ttl > 0
        ttl = min(message.ttl, RESERVATION_S)
        self.reserved_until = now.monotonic + ttl if granted else None
        self.reserved_until_unix = int(now.unix) + ttl
        self.rtt_ms = min(RTT_MS_MAX, round(1000 * (self.rtt_s or 0.0)))
        status = RelayStatus.OK if granted else RelayStatus.REFUSED
        self._owner.reservation_changed(self, status, now)

    def _not_reserved(self, now: Instant) -> None:
        """The session may be one that the relay has forgotten: a PING makes another."""
        self._reserving = None
        if self._reserve_attempts < RESERVE_ATTEMPTS:
            self._to_reserve = True
            self.probe(now)
            return
        self._reserve_attempts = 0
        self.reserved_until = None
        self._owner.reservation_changed(self, None, now)

    def _start_opening(self, peer: Key, now: Instant) -> None:
        del self._to_open[peer]
        self._opening[peer] = self._start(
            Open(0, peer),
            now,
            lambda answer, then: self._opened(peer, answer, then),
            lambda then: self._not_opened(peer, then),
        )

    def _opened(self, peer: Key, answer: Answer, now: Instant) -> None:
        del self._opening[peer]
        message = answer.message
        self._owner.channel_answered(self, peer, message if isinstance(message, Opened) else None, now)

    def _not_opened(self, peer: Key, now: Instant) -> None:
        del self._opening[peer]
        self._owner.channel_answered(self, peer, None, now)

    def _start(
        self,
        message: Reserve | Open,
        now: Instant,
        on_answer: Callable[[Answer, Instant], None],
        on_failure: Callable[[Instant], None],
    ) -> Request:
        return self._requests.start(
            self.key, [self.path], message, now, on_answer=on_answer, on_failure=on_failure
        )

    # Whether it lives

    def probe(self, now: Instant) -> None:
        if self._probe is not None:
            return
        session = self._engine.peers.obtain(self.key).session
        self._probe = self._requests.start(
            self.key,
            [self.path, *self._untried],
            self._engine.echo(),
            now,
            on_answer=self._probe_answered,
            on_failure=self._probe_failed,
            schedule=PROBE if session and not (self._in_use or self.reserving or self.opening) else None,
        )

    def set_in_use(self, yes: bool, now: Instant) -> None:
        """Whether data goes through one of our channels now."""
        if yes != self._in_use:
            self._in_use = yes
            self.watch(now)

    def heard(self, answer: Answer, now: Instant) -> None:
        """An answer of the relay, to whoever asked: a PONG says that it lives, and where it sees us."""
        if not isinstance(answer.message, Pong):
            return
        if answer.path in self._untried:
            self.path = answer.path
        if answer.path != self.path:
            return
        self._untried = ()
        self._heard_at = now.monotonic
        before, self._observed = self._observed, answer.message.observed
        moved = before is not None and before != self._observed
        withdrawn = self.reserved and not answer.message.capabilities & Capability.RELAY
        if moved or withdrawn:
            self.announce(now)

    def watch(self, now: Instant) -> None:
        """PING it whenever its last PONG is old enough, from now on."""
        silence_s = PROBE_IN_USE_S if self._in_use else jittered(self._engine.rng, PROBE_S)
        when = max(now.monotonic, self._heard_at + silence_s)
        self._next.set(when, lambda then: self._due(silence_s, then))

    def _due(self, silence_s: float, now: Instant) -> None:
        if now.monotonic >= self._heard_at + silence_s - CLOCK_SLACK_S:
            self.probe(now)
        else:
            self.watch(now)

    def _probe_answered(self, answer: Answer, now: Instant) -> None:
        self._probe = None
        self._untried = ()
        self.watch(now)
        self._go_on(now)

    def _probe_failed(self, now: Instant) -> None:
        self._probe = None
        self._owner.relay_lost(self, now)

    # Where we are

    def move(self, path: Path, now: Instant) -> list[tuple[Channel, Channel]]:
        """Our own socket towards the relay is another now. Returns each channel as it was and as it is."""
        again = list(self._opening)
        reserving = self._reserving is not None
        self.cancel()
        self.path, self._untried = path, ()
        before = list(self.channels.values())
        for channel in before:
            self.channels[channel.path.channel] = channel.at(path)
        self._to_open.update(dict.fromkeys(again))
        self._to_reserve |= reserving
        self._observed = None
        self.watch(now)
        self.announce(now)
        return [(channel, self.channels[channel.path.channel]) for channel in before]

    def cancel(self) -> None:
        """Nothing is sent or told any more."""
        for request in (self._reserving, self._probe, *self._opening.values()):
            self._requests.cancel(request)
        self._reserving = self._probe = None
        self._opening.clear()
        self._next.cancel()
