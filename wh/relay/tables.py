"""The tables of a relay: reservations, channels and their limits (docs/protocol.md section 8).

Pure: whoever calls sends the messages and has the data plane forward. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from wh.engine.crowds import Crowd
from wh.engine.events import Key, Path
from wh.engine.limits import RecentlySeen
from wh.wire.address import Address, is_v4
from wh.wire.messages import RelayStatus

RESERVATIONS_MAX = 128
RESERVATIONS_OF_ADDRESS = 8  # an IPv4 address or an IPv6 /48
RESERVATIONS_OF_NETWORK = 32  # a /16 or /32
CHANNELS_OF_OPENER = 4
UNAGREED_OF_TARGET = 16
UNAGREED_PATIENCE_S = 5.0
"""Between networks that are alike, a channel that its target has not asked for in this time makes room."""

CHANNELS_OF_STRANGERS = 2048
"""Of all strangers together: half of what the data plane has room for. The rest is for members."""

TTL_MAX_S = 3600
BAR_S = 600.0
"""How long an opener stays away after its target did not want it."""

BARS_OF_TARGET = 64


@dataclass(slots=True, eq=False)
class RelayedChannel:
    """legs: the opener's id and the target's. trusted: both are members of our own network. agreed: the
    target has asked for it too; before that neither hears where the other is."""

    opener: Key
    target: Key
    legs: tuple[int, int]
    opened_at: float
    trusted: bool
    agreed: bool = False

    def is_leg_of(self, key: Key, leg: int) -> bool:
        return (key, leg) in ((self.opener, self.legs[0]), (self.target, self.legs[1]))

    def leg_of(self, client: Key) -> int:
        """client: one of the two."""
        return self.legs[client == self.target]

    def other(self, client: Key) -> Key:
        return self.opener if client == self.target else self.target


@dataclass(slots=True)
class Client:
    """path: where it is now. until: of its reservation; None: it has only channels. barred: openers that it
    did not want. fixed_until: so long it does not move as long as it answers where it is."""

    path: Path
    until: float | None = None
    channels: list[RelayedChannel] = field(default_factory=list)
    barred: RecentlySeen = field(default_factory=lambda: RecentlySeen(BAR_S, BARS_OF_TARGET))
    fixed_until: float = float("-inf")


class Verdict(NamedTuple):
    """What becomes of a RESERVE or an OPEN. loser: who has to make room for it, if anybody."""

    status: RelayStatus
    client: Key | None = None
    channel: RelayedChannel | None = None


class RelayTables:
    """Members of our own network count in no limit: its file bounds them. Strangers compete for the places
    by their networks (wh.engine.crowds)."""

    def __init__(self) -> None:
        self._members: frozenset[Key] = frozenset()
        self._clients: dict[Key, Client] = {}
        self._by_leg: dict[int, RelayedChannel] = {}
        self._reservations: Crowd[Key] = Crowd()  # of strangers, as the next
        self._channels: Crowd[RelayedChannel] = Crowd()  # where their openers are

    # Questions

    def is_member(self, key: Key) -> bool:
        return key in self._members

    def trusts(self, opener: Key, target: Key) -> bool:
        return opener in self._members and target in self._members

    def path_of(self, client: Key) -> Path | None:
        """Where a client is; None: it has neither reservation nor channel."""
        known = self._clients.get(client)
        return known.path if known is not None else None

    def has_reservation(self, client: Key, now: float) -> bool:
        known = self._clients.get(client)
        return known is not None and known.until is not None and now < known.until

    def channels(self) -> list[RelayedChannel]:
        return list(dict.fromkeys(self._by_leg.values()))

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

    # Members

    def set_members(self, members: frozenset[Key]) -> list[RelayedChannel]:
        """From now on. Returns the channels that are trusted now and were not, or the other way round."""
        self._members = members
        for key, client in self._clients.items():
            self._count_reservation(key, client)
        changed = [each for each in self.channels() if each.trusted != self.trusts(each.opener, each.target)]
        for channel in changed:
            channel.trusted = not channel.trusted
            self._count_channel(channel)
        return changed

    def too_many(self) -> tuple[list[Key], list[RelayedChannel]]:
        """Who has to go, since some are members no more: clients with their reservations, and channels."""
        clients = list(self._reservations.surplus(RESERVATIONS_MAX))
        channels = list(self._channels.surplus(CHANNELS_OF_STRANGERS))
        return clients, channels

    # Reservations

    def may_reserve(self, key: Key, path: Path, now: float) -> Verdict:
        """OK or FULL; who has one keeps it, wherever it is."""
        if self.has_reservation(key, now) or self.is_member(key):
            return Verdict(RelayStatus.OK)
        held, address = self._reservations, path.remote
        of_address = held.count(address, 2 if is_v4(address) else 1)
        if of_address >= RESERVATIONS_OF_ADDRESS or held.count(address, 0) >= RESERVATIONS_OF_NETWORK:
            return Verdict(RelayStatus.FULL)
        if len(held) < RESERVATIONS_MAX:
            return Verdict(RelayStatus.OK)
        rivals = held.rivals(address)
        return Verdict(RelayStatus.OK, client=rivals[-1]) if rivals else Verdict(RelayStatus.FULL)

    def reserve(self, key: Key, path: Path, ttl_s: int, now: float) -> None:
        """Make or renew a reservation for ttl_s seconds that may_reserve() allows."""
        client = self._obtain(key, path)
        client.until = now + ttl_s
        self._count_reservation(key, client)

    def end_reservation(self, key: Key) -> None:
        """Its channels stay: close those first that shall not."""
        client = self._clients.get(key)
        if client is not None:
            client.until = None
            self._count_reservation(key, client)
            self._forget_if_unused(key)

    def _count_reservation(self, key: Key, client: Client) -> None:
        if client.until is None or self.is_member(key):
            self._reservations.remove(key)
        else:
            self._reservations.add(key, client.path.remote)

    # Channels

    def may_open(self, opener: Key, path: Path, target: Key, now: float) -> Verdict:
        """path: the opener's."""
        if not self.has_reservation(target, now):
            return Verdict(RelayStatus.UNKNOWN)
        if self._clients[target].barred.seen(opener, now):
            return Verdict(RelayStatus.BARRED)
        if self.trusts(opener, target):
            return Verdict(RelayStatus.OK)
        opened = sum(each.opener == opener and not each.trusted for each in self.channels_of(opener))
        if opened >= CHANNELS_OF_OPENER:
            return Verdict(RelayStatus.FULL)
        waiting = [
            each
            for each in self.channels_of(target)
            if each.target == target and not (each.agreed or each.trusted)
        ]
        if len(waiting) >= UNAGREED_OF_TARGET:
            return _in_place_of(self._who_waits_too_long(waiting, path.remote, now))
        if len(self._channels) >= CHANNELS_OF_STRANGERS:
            rivals = self._channels.rivals(path.remote)
            return _in_place_of(min(reversed(rivals), key=lambda each: each.agreed, default=None))
        return Verdict(RelayStatus.OK)

    def _who_waits_too_long(
        self, waiting: Iterable[RelayedChannel], newcomer: Address, now: float
    ) -> RelayedChannel | None:
        """Of the channels that wait for one target."""
        crowd: Crowd[RelayedChannel] = Crowd()
        for channel in waiting:
            crowd.add(channel, self._clients[channel.opener].path.remote)
        rivals = crowd.rivals(newcomer)
        if rivals:
            return rivals[0]
        oldest = min(crowd, key=lambda channel: channel.opened_at)
        return oldest if now - oldest.opened_at >= UNAGREED_PATIENCE_S else None

    def add(self, opener: Key, path: Path, target: Key, legs: tuple[int, int], now: float) -> RelayedChannel:
        """A channel that may_open() allows. path: the opener's. The target must have a reservation."""
        channel = RelayedChannel(opener, target, legs, now, self.trusts(opener, target))
        self._obtain(opener, path).channels.append(channel)
        self._clients[target].channels.append(channel)
        for leg in legs:
            self._by_leg[leg] = channel
        self._count_channel(channel)
        return channel

    def remove(self, channel: RelayedChannel) -> None:
        """One that is here."""
        self._channels.remove(channel)
        for leg in channel.legs:
            self._by_leg.pop(leg, None)
        for key in (channel.opener, channel.target):
            client = self._clients.get(key)
            if client is not None and channel in client.channels:
                client.channels.remove(channel)
                self._forget_if_unused(key)

    def _count_channel(self, channel: RelayedChannel) -> None:
        if channel.trusted:
            self._channels.remove(channel)
        else:
            self._channels.add(channel, self._clients[channel.opener].path.remote)

    def bar(self, target: Key, opener: Key, now: float) -> None:
        """As long as the target has a reservation."""
        client = self._clients.get(target)
        if client is not None:
            client.barred.note(opener, now)

    # Where clients are

    def move(self, key: Key, path: Path) -> list[int]:
        """A client is at another path now. Returns its legs, which move with it."""
        client = self._clients.get(key)
        if client is None or client.path == path:
            return []
        client.path = path
        self._count_reservation(key, client)
        for channel in client.channels:
            if channel.opener == key:
                self._count_channel(channel)
        return [channel.leg_of(key) for channel in client.channels]

    def fix(self, key: Key, until: float) -> None:
        """See Client.fixed_until."""
        if key in self._clients:
            self._clients[key].fixed_until = until

    def is_fixed(self, key: Key, now: float) -> bool:
        return key in self._clients and now < self._clients[key].fixed_until

    def _obtain(self, key: Key, path: Path) -> Client:
        return self._clients.setdefault(key, Client(path))

    def _forget_if_unused(self, key: Key) -> None:
        client = self._clients[key]
        if client.until is None and not client.channels:
            del self._clients[key]


def _in_place_of(loser: RelayedChannel | None) -> Verdict:
    return Verdict(RelayStatus.FULL) if loser is None else Verdict(RelayStatus.OK, channel=loser)
