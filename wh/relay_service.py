"""Relaying for others: messages answered, channels opened, moved and ended (docs/protocol.md section 8)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from wh.commands import CloseRelay, MoveRelay, OpenRelay, Reply, Send, SetRelayLimits
from wh.config.model import Network, PeerKind, RelayPolicy
from wh.engine import Engine
from wh.events import Instant, Key, MessageReceived, Path, RelayAnswered, RelayEnded, RelayOpened
from wh.limits import RateLimit
from wh.relay.server import TTL_MAX_S, RelayedChannel, RelayTables
from wh.requests import Requests, Schedule
from wh.timers import Timer
from wh.wire.fields import NONCE_LEN
from wh.wire.messages import (
    Challenge,
    Close,
    CloseReason,
    Open,
    Opened,
    RelayStatus,
    Reserve,
    Reserved,
)

REQUESTS_BURST = 16
REQUESTS_INTERVAL_S = 0.5
"""RESERVE and OPEN of one stranger; a client needs a handful an hour."""

CHALLENGE_ONCE = Schedule((), 1.0)
"""Who waits for an answer asks again; more than came from an address must not go there."""

ANSWER_LEN_MAX = 80
WAITING_MAX = 256
OPENINGS_MAX = 1024
OFFER_AGAIN_S = (0.3, 1.0)
"""A target hears of its channel in a message that nobody acknowledges: again, until it has sent."""

BURST_S = 0.25
BURST_MIN = 128 * 1024
BURST_MAX = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Opening:
    """An OPEN that waits for the data plane's RelayOpened."""

    event: MessageReceived
    request_id: int
    target: Key
    trusted: bool


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
        self._members: frozenset[Key] = frozenset()
        self._rates = RateLimit(REQUESTS_BURST, REQUESTS_INTERVAL_S)
        self._waiting: OrderedDict[Key, MessageReceived] = OrderedDict()  # for its path to be validated
        self._openings: OrderedDict[int, Opening] = OrderedDict()
        self._last_opening = 0
        self._expiry: Timer | None = None
        requests.validation_listeners.append(self._validated)

    def set_network(self, network: Network) -> None:
        kinds = (PeerKind.TRUST, PeerKind.ROUTER)
        self._members = frozenset(peer.key for peer in network.peers if peer.kind in kinds)
        if network.relay == self._policy:
            return
        self._policy = network.relay
        rate, day_quota = network.relay.total_rate, network.relay.day_quota
        self._engine.emit(SetRelayLimits(rate, _burst(rate), day_quota))
        if not network.relay.offered:
            for key in self._tables.clients():
                self._end_client(key)

    def served(self) -> tuple[int, int]:
        """How many reservations there are, and how many channels."""
        return self._tables.counts()

    # What clients ask

    def handle(self, event: MessageReceived, now: Instant) -> None:
        """A RESERVE or an OPEN of a session. From an address that is not proved it waits until that is."""
        path = event.path
        if path.channel or not self._engine.addressing.is_main_socket(path.socket):
            return
        if event.peer not in self._members and not self._rates.allow(event.peer, now.monotonic):
            return
        proved = self._engine.peers.obtain(event.peer).is_validated(event.path, now)
        if proved and event.capacity >= ANSWER_LEN_MAX:
            self._answer(event, now)
        else:
            self._prove(event, now)

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
        self._waiting.pop(key, None)
        self._end_client(key, told=False)

    def _prove(self, event: MessageReceived, now: Instant) -> None:
        self._waiting[event.peer] = event
        self._waiting.move_to_end(event.peer)
        if len(self._waiting) > WAITING_MAX:
            self._waiting.popitem(last=False)
        if not self._requests.waits_for(event.peer, Challenge):
            nonce = self._engine.rng.randbytes(NONCE_LEN)
            self._requests.start(event.peer, [event.path], Challenge(0, nonce), now, schedule=CHALLENGE_ONCE)

    def _validated(self, key: Key, path: Path, now: Instant) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None and waiting.path == path:
            del self._waiting[key]
            self._answer(waiting, now)

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
        status = self._try_reserve(event, ttl, now)
        if status != RelayStatus.OK:
            self._reply(event, Reserved(reserve.request_id, status))
            return
        self._move(event.peer, event.path)
        self._schedule_expiry()
        rate = 0 if event.peer in self._members else self._limits.rate
        self._reply(event, Reserved(reserve.request_id, RelayStatus.OK, ttl, min(rate, 0xFFFF_FFFF)))

    def _try_reserve(self, event: MessageReceived, ttl: int, now: Instant) -> RelayStatus:
        """While we do not know whether we are reachable, who has a reservation keeps it."""
        renewal = self._tables.has_reservation(event.peer, now.monotonic)
        if not self._limits.offered or not (renewal or self._is_server()):
            return RelayStatus.REFUSED
        member = event.peer in self._members
        return self._tables.reserve(event.peer, event.path, ttl, now.monotonic, member=member)

    @property
    def _limits(self) -> RelayPolicy:
        return self._policy or RelayPolicy(offered=False)

    def _schedule_expiry(self) -> None:
        when = self._tables.next_expiry()
        if self._expiry is not None:
            self._expiry.cancel()
        if when is not None:
            self._expiry = self._engine.timers.call_at(when, self._expire)

    def _expire(self, now: Instant) -> None:
        for key in self._tables.expired(now.monotonic):
            self._end_client(key)
        self._schedule_expiry()

    # Channels

    def _open(self, event: MessageReceived, open_: Open, now: Instant) -> None:
        """Who asks for a channel that is there gets that one: its OPENED may have been lost."""
        channel = self._tables.between(event.peer, open_.peer)
        if channel is not None:
            self._move(event.peer, event.path)
            self._reply_opened(event, open_.request_id, channel)
            if not channel.answered and channel.opener == event.peer:
                self._offer(channel)
            return
        status = self._may_open(event.peer, open_.peer, now)
        if status != RelayStatus.OK:
            self._reply(event, Opened(open_.request_id, status))
            return
        self._begin(event, open_)

    def _may_open(self, opener: Key, target: Key, now: Instant) -> RelayStatus:
        if not self._limits.offered:
            return RelayStatus.REFUSED
        if opener == target:
            return RelayStatus.UNKNOWN
        return self._tables.may_open(opener, target, now.monotonic, trusted=self._trusts(opener, target))

    def _begin(self, event: MessageReceived, open_: Open) -> None:
        target_path = self._tables.path_of(open_.peer)
        if target_path is None:
            return
        self._last_opening += 1
        trusted = self._trusts(event.peer, open_.peer)
        self._openings[self._last_opening] = Opening(event, open_.request_id, open_.peer, trusted)
        if len(self._openings) > OPENINGS_MAX:
            self._openings.popitem(last=False)
        rate = 0 if trusted else self._limits.rate
        self._engine.emit(
            OpenRelay(self._last_opening, event.path, target_path, rate, _burst(rate), trusted=trusted)
        )

    def opened(self, event: RelayOpened, now: Instant) -> None:
        """The data plane forwards, or has no room."""
        opening = self._openings.pop(event.request, None)
        if opening is None:
            return
        opener, status = opening.event.peer, RelayStatus.FULL
        if event.legs is not None:
            status = self._may_open(opener, opening.target, now)  # others may have been quicker
            if status == RelayStatus.OK and self._tables.between(opener, opening.target) is None:
                self._add(opening, event.legs, now)
                return
            self._engine.emit(CloseRelay(event.legs[0]))
        channel = self._tables.between(opener, opening.target)
        if channel is not None:
            self._reply_opened(opening.event, opening.request_id, channel)
        else:
            self._reply(opening.event, Opened(opening.request_id, status))

    def _add(self, opening: Opening, legs: tuple[int, int], now: Instant) -> None:
        event = opening.event
        self._move(event.peer, event.path)
        channel = self._tables.add(event.peer, event.path, opening.target, legs, trusted=opening.trusted)
        self._reply_opened(event, opening.request_id, channel)
        self._offer(channel)
        self._offer_again(channel, 0, now)

    def answered(self, event: RelayAnswered) -> None:
        """The targets of these channels have sent."""
        for legs in event.legs:
            channel = self._tables.by_leg(legs[0])
            if channel is not None:
                channel.answered = True

    def ended(self, event: RelayEnded) -> None:
        """They were silent for too long."""
        for legs in event.legs:
            channel = self._tables.by_leg(legs[0])
            if channel is not None and channel.legs == legs:
                self._end(channel, CloseReason.SILENT)

    def _trusts(self, opener: Key, target: Key) -> bool:
        return opener in self._members and target in self._members

    def _reply_opened(self, event: MessageReceived, request_id: int, channel: RelayedChannel) -> None:
        other = channel.other(event.peer)
        path = self._tables.path_of(other)
        if path is not None:
            leg = channel.leg_of(event.peer)
            self._reply(event, Opened(request_id, RelayStatus.OK, leg, other, path.remote))

    def _offer(self, channel: RelayedChannel) -> None:
        """Tell the target."""
        path, opener_path = self._tables.path_of(channel.target), self._tables.path_of(channel.opener)
        if path is not None and opener_path is not None:
            message = Opened(0, RelayStatus.OK, channel.legs[1], channel.opener, opener_path.remote)
            self._engine.emit(Send(channel.target, path, message))

    def _offer_again(self, channel: RelayedChannel, times: int, now: Instant) -> None:
        def again(then: Instant) -> None:
            if self._tables.by_leg(channel.legs[0]) is channel and not channel.answered:
                self._offer(channel)
                self._offer_again(channel, times + 1, then)

        if times < len(OFFER_AGAIN_S):
            self._engine.timers.call_at(now.monotonic + OFFER_AGAIN_S[times], again)

    # Ends and moves

    def _move(self, key: Key, path: Path) -> None:
        for leg in self._tables.move(key, path):
            self._engine.emit(MoveRelay(leg, path))

    def _end_client(self, key: Key, *, told: bool = True) -> None:
        """Its reservation and all of its channels end."""
        for channel in self._tables.channels_of(key):
            if told:
                self._tell(channel, key, CloseReason.GONE)
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


def _burst(rate: int) -> int:
    """Bytes that may go at once under a rate of bytes/s."""
    return min(max(BURST_MIN, int(rate * BURST_S)), BURST_MAX) if rate else 0
