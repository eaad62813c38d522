"""The tables of a relay: reservations, channels and their limits (docs/protocol.md section 8).

Pure: whoever calls sends the messages and has the data plane forward. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from wh.events import Key, Path
from wh.limits import RecentlySeen
from wh.wire.address import prefix
from wh.wire.messages import RelayStatus

RESERVATIONS_MAX = 128
RESERVATIONS_OF_ADDRESS = 8  # an IPv4 address or an IPv6 /48
RESERVATIONS_OF_NETWORK = 32  # a /16 or /32
CHANNELS_OF_OPENER = 4
UNANSWERED_OF_TARGET = 16
CHANNELS_OF_STRANGERS = 2048
"""Of all strangers together: half of what the data plane has room for. The rest is for members."""

TTL_MAX_S = 3600
BAR_S = 600.0
"""How long an opener stays away after its target did not want it."""


@dataclass(slots=True, eq=False)
class RelayedChannel:
    """legs: the opener's id and the target's. trusted: both are members of our own network. answered: the
    target has sent on it."""

    opener: Key
    target: Key
    legs: tuple[int, int]
    trusted: bool
    answered: bool = False

    def is_leg_of(self, key: Key, leg: int) -> bool:
        return (key, leg) in ((self.opener, self.legs[0]), (self.target, self.legs[1]))

    def leg_of(self, client: Key) -> int:
        """client: one of the two."""
        return self.legs[client == self.target]

    def other(self, client: Key) -> Key:
        return self.opener if client == self.target else self.target


@dataclass(slots=True)
class Client:
    """path: where it is now. until: of its reservation; None: it has only channels. member: our file had a
    line for it when it reserved."""

    path: Path
    until: float | None = None
    member: bool = False
    channels: list[RelayedChannel] = field(default_factory=list)


class RelayTables:
    """Members of our own network count in no limit: its file bounds them."""

    def __init__(self) -> None:
        self._clients: dict[Key, Client] = {}
        self._by_leg: dict[int, RelayedChannel] = {}
        self._strangers_channels = 0
        self._barred = RecentlySeen(BAR_S)  # (target, opener)

    # Questions

    def path_of(self, client: Key) -> Path | None:
        """Where a client is; None: it has neither reservation nor channel."""
        known = self._clients.get(client)
        return known.path if known is not None else None

    def has_reservation(self, client: Key, now: float) -> bool:
        known = self._clients.get(client)
        return known is not None and known.until is not None and now < known.until

    def channels_of(self, client: Key) -> tuple[RelayedChannel, ...]:
        known = self._clients.get(client)
        return tuple(known.channels) if known is not None else ()

    def by_leg(self, leg: int) -> RelayedChannel | None:
        return self._by_leg.get(leg)

    def between(self, one: Key, other: Key) -> RelayedChannel | None:
        """The channel of two clients, whoever opened it: there is one at most."""
        return next((each for each in self.channels_of(one) if each.other(one) == other), None)

    def clients(self) -> tuple[Key, ...]:
        return tuple(self._clients)

    def counts(self) -> tuple[int, int]:
        """Reservations and channels."""
        reservations = sum(client.until is not None for client in self._clients.values())
        return reservations, len(self._by_leg) // 2

    def next_expiry(self) -> float | None:
        return min(
            (client.until for client in self._clients.values() if client.until is not None), default=None
        )

    def expired(self, now: float) -> list[Key]:
        """Whose reservations have run out."""
        return [
            key for key, client in self._clients.items() if client.until is not None and client.until <= now
        ]

    # Reservations

    def reserve(self, key: Key, path: Path, ttl_s: int, now: float, *, member: bool) -> RelayStatus:
        """Make or renew a reservation for ttl_s seconds. OK or FULL; who has one keeps it, wherever it is."""
        client = self._clients.get(key)
        renewal = client is not None and client.until is not None
        if not (renewal or member or self._has_room(path)):
            return RelayStatus.FULL
        client = self._obtain(key, path)
        client.member = member
        client.until = now + ttl_s
        return RelayStatus.OK

    def end_reservation(self, key: Key) -> None:
        """Its channels stay: close those first that shall not."""
        client = self._clients.get(key)
        if client is not None:
            client.until = None
            self._forget_if_unused(key)

    def _has_room(self, path: Path) -> bool:
        strangers = list(self._strangers_paths())
        address, network = prefix(path.remote, 32, 48), prefix(path.remote, 16, 32)
        of_address = sum(prefix(each.remote, 32, 48) == address for each in strangers)
        of_network = sum(prefix(each.remote, 16, 32) == network for each in strangers)
        return (
            len(strangers) < RESERVATIONS_MAX
            and of_address < RESERVATIONS_OF_ADDRESS
            and of_network < RESERVATIONS_OF_NETWORK
        )

    def _strangers_paths(self) -> Iterator[Path]:
        return (
            client.path for client in self._clients.values() if client.until is not None and not client.member
        )

    # Channels

    def may_open(self, opener: Key, target: Key, now: float, *, trusted: bool) -> RelayStatus:
        """trusted: both are members of our own network."""
        if not self.has_reservation(target, now):
            return RelayStatus.UNKNOWN
        if self._barred.seen((target, opener), now):
            return RelayStatus.BARRED
        opened = sum(each.opener == opener and not each.trusted for each in self.channels_of(opener))
        unanswered = sum(
            each.target == target and not (each.answered or each.trusted) for each in self.channels_of(target)
        )
        within = opened < CHANNELS_OF_OPENER and unanswered < UNANSWERED_OF_TARGET
        within = within and self._strangers_channels < CHANNELS_OF_STRANGERS
        return RelayStatus.OK if trusted or within else RelayStatus.FULL

    def add(
        self, opener: Key, path: Path, target: Key, legs: tuple[int, int], *, trusted: bool
    ) -> RelayedChannel:
        """A channel that may_open() allows. path: the opener's. The target must have a reservation."""
        channel = RelayedChannel(opener, target, legs, trusted)
        self._obtain(opener, path).channels.append(channel)
        self._clients[target].channels.append(channel)
        for leg in legs:
            self._by_leg[leg] = channel
        self._strangers_channels += not trusted
        return channel

    def remove(self, channel: RelayedChannel) -> None:
        """One that is here."""
        self._strangers_channels -= not channel.trusted
        for leg in channel.legs:
            self._by_leg.pop(leg, None)
        for key in (channel.opener, channel.target):
            client = self._clients.get(key)
            if client is not None and channel in client.channels:
                client.channels.remove(channel)
                self._forget_if_unused(key)

    def bar(self, target: Key, opener: Key, now: float) -> None:
        self._barred.note((target, opener), now)

    # Where clients are

    def move(self, key: Key, path: Path) -> list[int]:
        """A client is at another path now. Returns its legs, which move with it."""
        client = self._clients.get(key)
        if client is None or client.path == path:
            return []
        client.path = path
        return [channel.leg_of(key) for channel in client.channels]

    def _obtain(self, key: Key, path: Path) -> Client:
        return self._clients.setdefault(key, Client(path))

    def _forget_if_unused(self, key: Key) -> None:
        client = self._clients[key]
        if client.until is None and not client.channels:
            del self._clients[key]
