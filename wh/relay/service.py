"""Relaying for others: messages answered, channels opened, moved and ended (docs/protocol.md section 8)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from wh.config.model import Network, PeerKind, RelayPolicy
from wh.engine.commands import CloseRelay, LimitRelay, OpenRelay, Reply, Send, SetRelayLimits
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, MessageReceived, RelayEnded, RelayOpened
from wh.engine.requests import Requests
from wh.engine.timers import Alarm
from wh.relay.admission import Admission
from wh.relay.following import Following
from wh.relay.tables import TTL_MAX_S, RelayedChannel, RelayTables, Verdict
from wh.wire.messages import (
    Close,
    CloseReason,
    Open,
    Opened,
    RelayStatus,
    Reserve,
    Reserved,
)

OPENINGS_MAX = 1024
AGAIN_S = (0.3, 1.0)
"""What clients are told unasked nobody acknowledges: again, while it is true."""

BURST_S = 0.25
BURST_MIN = 128 * 1024
BURST_MAX = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Opening:
    """An OPEN that waits for the data plane's RelayOpened."""

    event: MessageReceived
    request_id: int
    target: Key


class RelayService:
    """is_server: whether others can reach us: else we take nobody new. A client is where its last RESERVE or
    OPEN came from: that its session is proved elsewhere says nothing, it may have sockets and paths for other
    purposes."""

    def __init__(self, engine: Engine, requests: Requests, is_server: Callable[[], bool]) -> None:
        self._engine = engine
        self._requests = requests
        self._is_server = is_server
        self._tables = RelayTables()
        self._policy: RelayPolicy | None = None
        self._admission = Admission(engine, requests, self._tables, self._answer)
        self._following = Following(engine, requests, self._tables)
        self._openings: OrderedDict[int, Opening] = OrderedDict()
        self._last_opening = 0
        self._expiry = Alarm(engine.timers)

    def set_network(self, network: Network, now: Instant) -> None:
        """What follows from the file counts at once, also for what is there."""
        kinds = (PeerKind.TRUST, PeerKind.ROUTER)
        changed = self._tables.set_members(
            frozenset(peer.key for peer in network.peers if peer.kind in kinds)
        )
        if network.relay != self._policy:
            self._policy = network.relay
            rate, day_quota = network.relay.total_rate, network.relay.day_quota
            self._engine.emit(SetRelayLimits(rate, _burst(rate), day_quota))
            changed = self._tables.channels()
        if not network.relay.offered:
            for key in self._tables.clients():
                self._end_client(key)
            return
        for channel in changed:
            rate = self._rate_of(channel.opener, channel.target)
            self._engine.emit(LimitRelay(channel.legs[0], rate, _burst(rate), trusted=channel.trusted))
        clients, channels = self._tables.too_many()
        for key in clients:
            self._crowd_out(key, now)
        for channel in channels:
            self._end(channel, CloseReason.CROWDED)

    def served(self) -> tuple[int, int]:
        """How many reservations there are, and how many channels."""
        return self._tables.counts()

    # What clients ask

    def handle(self, event: MessageReceived, now: Instant) -> None:
        """A RESERVE or an OPEN of a session."""
        self._admission.handle(event, now)

    def closed_by(self, event: MessageReceived, close: Close, now: Instant) -> bool:
        """A client wants a channel no more. False where it is none that we relay for it."""
        channel = self._tables.by_leg(close.channel)
        if channel is None or not channel.is_leg_of(event.peer, close.channel):
            return False
        unwanted = close.reason == CloseReason.UNWANTED and event.peer == channel.target
        if unwanted:
            self._tables.bar(channel.target, channel.opener, now.monotonic)
        self._tell(channel, channel.other(event.peer), CloseReason.UNWANTED if unwanted else CloseReason.DONE)
        self._remove(channel)
        return True

    def left(self, key: Key) -> None:
        """It said LEAVING."""
        self._admission.left(key)
        self._end_client(key, told=False)

    def _answer(self, event: MessageReceived, now: Instant) -> None:
        match event.message:
            case Reserve():
                self._reserve(event, event.message, now)
            case Open():
                self._open(event, event.message, now)

    # Reservations

    def _reserve(self, event: MessageReceived, reserve: Reserve, now: Instant) -> None:
        ttl = min(reserve.ttl, TTL_MAX_S)
        if not ttl:
            self._end_client(event.peer)
            self._reply(event, Reserved(reserve.request_id, RelayStatus.OK))
            return
        verdict = self._may_reserve(event, now)
        if verdict.status != RelayStatus.OK:
            self._reply(event, Reserved(reserve.request_id, verdict.status))
            return
        if verdict.client is not None:
            self._crowd_out(verdict.client, now)
        self._following.follow(event.peer, event.path, now)
        self._tables.reserve(event.peer, event.path, ttl, now.monotonic)
        self._schedule_expiry()
        rate = 0 if self._tables.is_member(event.peer) else self._limits.rate
        self._reply(event, Reserved(reserve.request_id, RelayStatus.OK, ttl, min(rate, 0xFFFF_FFFF)))

    def _may_reserve(self, event: MessageReceived, now: Instant) -> Verdict:
        """While we do not know whether we are reachable, who has a reservation keeps it."""
        renewal = self._tables.has_reservation(event.peer, now.monotonic)
        if not self._limits.offered or not (renewal or self._is_server()):
            return Verdict(RelayStatus.REFUSED)
        return self._tables.may_reserve(event.peer, event.path, now.monotonic)

    @property
    def _limits(self) -> RelayPolicy:
        return self._policy or RelayPolicy(offered=False)

    def _rate_of(self, opener: Key, target: Key) -> int:
        return 0 if self._tables.trusts(opener, target) else self._limits.rate

    def _crowd_out(self, key: Key, now: Instant) -> None:
        """Its place goes to another network. It is told, or it would be missed here until it renews."""
        path = self._tables.path_of(key)
        self._end_client(key, CloseReason.CROWDED)
        if path is not None:
            message = Send(key, path, Reserved(0, RelayStatus.FULL))
            self._repeat(lambda: None if self._tables.path_of(key) else message, now)

    def _schedule_expiry(self) -> None:
        when = self._tables.next_expiry()
        self._expiry.cancel()
        if when is not None:
            self._expiry.set(when, self._expire)

    def _expire(self, now: Instant) -> None:
        for key in self._tables.expired(now.monotonic):
            self._end_client(key)
        self._schedule_expiry()

    # Channels

    def _open(self, event: MessageReceived, open_: Open, now: Instant) -> None:
        """Who asks for a channel that is there gets that one: its OPENED may have been lost, or it agrees."""
        channel = self._tables.between(event.peer, open_.peer)
        if channel is not None:
            self._following.follow(event.peer, event.path, now)
            self._join(event, open_.request_id, channel, now)
            return
        status = self._may_open(event, open_.peer, now).status
        if status != RelayStatus.OK:
            self._reply(event, Opened(open_.request_id, status))
            return
        self._begin(event, open_)

    def _may_open(self, event: MessageReceived, target: Key, now: Instant) -> Verdict:
        if not self._limits.offered:
            return Verdict(RelayStatus.REFUSED)
        if event.peer == target:
            return Verdict(RelayStatus.UNKNOWN)
        return self._tables.may_open(event.peer, event.path, target, now.monotonic)

    def _begin(self, event: MessageReceived, open_: Open) -> None:
        target_path = self._tables.path_of(open_.peer)
        if target_path is None:
            return
        self._last_opening += 1
        self._openings[self._last_opening] = Opening(event, open_.request_id, open_.peer)
        if len(self._openings) > OPENINGS_MAX:
            self._openings.popitem(last=False)
        trusted, rate = self._tables.trusts(event.peer, open_.peer), self._rate_of(event.peer, open_.peer)
        self._engine.emit(
            OpenRelay(self._last_opening, event.path, target_path, rate, _burst(rate), trusted=trusted)
        )

    def opened(self, event: RelayOpened, now: Instant) -> None:
        """The data plane forwards, or has no room."""
        opening = self._openings.pop(event.request, None)
        if opening is None:
            return
        asked, status = opening.event, RelayStatus.FULL
        if event.legs is not None:
            verdict = self._may_open(asked, opening.target, now)  # others may have been quicker
            status = verdict.status
            if status == RelayStatus.OK and self._tables.between(asked.peer, opening.target) is None:
                if verdict.channel is not None:
                    self._end(verdict.channel, CloseReason.CROWDED)
                self._add(opening, event.legs, now)
                return
            self._engine.emit(CloseRelay(event.legs[0]))
        channel = self._tables.between(asked.peer, opening.target)
        if channel is not None:
            self._join(asked, opening.request_id, channel, now)
        else:
            self._reply(asked, Opened(opening.request_id, status))

    def _add(self, opening: Opening, legs: tuple[int, int], now: Instant) -> None:
        event = opening.event
        self._following.follow(event.peer, event.path, now)
        channel = self._tables.add(event.peer, event.path, opening.target, legs, now.monotonic)
        self._reply_opened(event, opening.request_id, channel)
        self._repeat(lambda: self._news_of(channel, agreed=False), now)

    def _join(self, event: MessageReceived, request_id: int, channel: RelayedChannel, now: Instant) -> None:
        """An OPEN for a channel that is there."""
        newly = event.peer == channel.target and not channel.agreed
        channel.agreed |= newly
        self._reply_opened(event, request_id, channel)
        if newly:
            self._repeat(lambda: self._news_of(channel, agreed=True), now)
        elif not channel.agreed:
            self._emit(self._news_of(channel, agreed=False))

    def ended(self, event: RelayEnded) -> None:
        """They were silent for too long."""
        for legs in event.legs:
            channel = self._tables.by_leg(legs[0])
            if channel is not None and channel.legs == legs:
                self._end(channel, CloseReason.SILENT)

    def _reply_opened(self, event: MessageReceived, request_id: int, channel: RelayedChannel) -> None:
        opened = self._opened_for(event.peer, channel, request_id)
        if opened is not None:
            self._reply(event, opened)

    def _opened_for(self, client: Key, channel: RelayedChannel, request_id: int = 0) -> Opened | None:
        """Where the other end is stays between us and it until it has agreed: its key is all that an opener
        knows, and anybody may open."""
        other = channel.other(client)
        path = self._tables.path_of(other)
        if path is None:
            return None
        opened = Opened(request_id, RelayStatus.OK, channel.leg_of(client), other)
        return replace(opened, observed=path.remote) if channel.agreed else opened

    def _news_of(self, channel: RelayedChannel, *, agreed: bool) -> Send | None:
        """To the target that there is a channel, until it agrees; to the opener that it has agreed."""
        client = channel.opener if agreed else channel.target
        path, opened = self._tables.path_of(client), self._opened_for(client, channel)
        there = self._tables.by_leg(channel.legs[0]) is channel
        if path is None or opened is None or not there or channel.agreed != agreed:
            return None
        return Send(client, path, opened)

    # Ends

    def _end_client(self, key: Key, reason: CloseReason = CloseReason.GONE, *, told: bool = True) -> None:
        """Its reservation and all of its channels end."""
        for channel in self._tables.channels_of(key):
            if told:
                self._tell(channel, key, reason)
            self._tell(channel, channel.other(key), CloseReason.GONE)
            self._remove(channel)
        self._tables.end_reservation(key)

    def _end(self, channel: RelayedChannel, reason: CloseReason) -> None:
        for key in (channel.opener, channel.target):
            self._tell(channel, key, reason)
        self._remove(channel)

    def _tell(self, channel: RelayedChannel, client: Key, reason: CloseReason) -> None:
        path = self._tables.path_of(client)
        if path is not None:
            self._engine.emit(Send(client, path, Close(0, channel.leg_of(client), reason)))

    def _remove(self, channel: RelayedChannel) -> None:
        self._engine.emit(CloseRelay(channel.legs[0]))
        self._tables.remove(channel)

    def _reply(self, event: MessageReceived, message: Reserved | Opened) -> None:
        self._engine.emit(Reply(event.reply, message))

    def _emit(self, send: Send | None) -> None:
        if send is not None:
            self._engine.emit(send)

    def _repeat(self, news: Callable[[], Send | None], now: Instant, times: int = 0) -> None:
        """Say it now and again after AGAIN_S, as long as it is true."""
        send = news()
        self._emit(send)
        if send is not None and times < len(AGAIN_S):
            self._engine.timers.call_at(
                now.monotonic + AGAIN_S[times], lambda then: self._repeat(news, then, times + 1)
            )


def _burst(rate: int) -> int:
    """Bytes that may go at once under a rate of bytes/s."""
    return min(max(BURST_MIN, int(rate * BURST_S)), BURST_MAX) if rate else 0
