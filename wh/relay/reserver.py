"""Our side of relays: the channels to peers, and who may open them (docs/protocol.md section 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from wh.config.model import Network, PeerKind
from wh.dht.kademlia import Kademlia
from wh.engine.commands import AdmitChannel, DismissChannel
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, MessageReceived, Path
from wh.engine.limits import RateLimit, RecentlySeen
from wh.engine.requests import Answer, Requests
from wh.relay.choosing import Channel, Ways
from wh.relay.link import RelayLink
from wh.relay.reservations import Reachability, Reservations
from wh.wire.address import Address
from wh.wire.messages import Capability, Close, CloseReason, Opened, Pong, RelayStatus
from wh.wire.records import Relay

OPEN_AGAIN_S = 5.0
BARRED_S = 600.0
"""Where a channel to a peer was refused, or not wanted by the peer, no other is asked for."""

LEFT_S = 60.0
"""So long a path to a relay that we gave up is remembered."""

OFFERS_BURST = 32
OFFERS_INTERVAL_S = 0.5
"""Channels of one member, and of all strangers, that one relay may tell us of."""

GUESTS_OF_RELAY = 20
GUEST_S = 30.0
"""Channels of peers that the file does not name yet, and how long each has to claim an alias. A relay holds
16 for us, of which one that ended there may still stand here, and no network has all: we do not know where
they come from."""


class RelayClient:
    """opened(channel, now): a channel is there, and control may be sent through it at once. closed(peer,
    path, now): it ended, other than by close(). A channel whose path changes is closed and opened again.
    failed(peer, now): what open() began came to nothing. changed(now): `relays` says something new.
    short(now): more servers than are known would be of use. welcome(now): whether peers that are no members
    may come too, for a while, since an alias can be claimed here; opened() is not called of them before they
    are members. out_of_reach(relay, now): a peer is at that relay, and no path of ours."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        kademlia: Kademlia,
        reachability: Reachability,
        *,
        opened: Callable[[Channel, Instant], None],
        closed: Callable[[Key, Path, Instant], None],
        failed: Callable[[Key, Instant], None],
        changed: Callable[[Instant], None],
        short: Callable[[Instant], None],
        welcome: Callable[[Instant], bool] = lambda now: False,
        out_of_reach: Callable[[Relay, Instant], None] = lambda relay, now: None,
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._ways = Ways(engine, kademlia)
        self._opened = opened
        self._closed = closed
        self._failed = failed
        self._welcome = welcome
        self._out_of_reach = out_of_reach
        self._guests: set[Path] = set()
        self._links: dict[Key, RelayLink] = {}
        self._members: frozenset[Key] = frozenset()
        self._in_use: set[Key] = set()  # peers
        self._attempts: dict[tuple[Key, Key], list[Relay]] = {}  # peer, relay -> where to try next
        self._refused = RecentlySeen(OPEN_AGAIN_S)  # (peer, relay)
        self._barred = RecentlySeen(BARRED_S)  # (peer, relay)
        self._left = RecentlySeen(LEFT_S)  # (relay, path)
        self._offers = RateLimit(OFFERS_BURST, OFFERS_INTERVAL_S)
        self._reservations = Reservations(
            engine, kademlia, reachability, self, expected=self._is_expecting, changed=changed, short=short
        )
        requests.answer_listeners.append(self._answered)

    # For our record, and for status

    @property
    def relays(self) -> tuple[Relay, ...]:
        """Where others can open a channel to us, the nearest first."""
        return self._reservations.relays

    @property
    def relays_until(self) -> int | None:
        """Unix seconds at which the first of the reservations ends."""
        return self._reservations.until

    def channels_to(self, peer: Key) -> list[Channel]:
        """Those that are open."""
        channels = (link.channel_to(peer) for link in self._links.values())
        return [channel for channel in channels if channel is not None]

    # What the paths to peers want

    def open(self, peer: Key, relays: Sequence[Relay], now: Instant) -> None:
        """Open one more channel to a peer, at the nearest of the relays of its record where there is none and
        none is being opened; where that refuses, at the next. opened or failed follows, later."""
        for relay in relays:
            if relay.key != self._engine.key and not self._ways.paths_to(relay, now):
                self._out_of_reach(relay, now)
        usable = [relay for relay in relays if self._may_open(peer, relay, now)]
        self._open_at(peer, sorted(usable, key=self._ways.rtt_s), now)

    def close(self, path: Path, now: Instant, reason: CloseReason = CloseReason.DONE) -> None:
        """We want that channel no more. closed is not called."""
        for link in list(self._links.values()):
            channel = link.channels.get(path.channel)
            if channel is not None and channel.path == path:
                link.close(path.channel, reason)
                self._forget_channel(link, channel, now)

    def wanted(self, peer: Key, yes: bool, now: Instant) -> None:
        """Whether data goes through the peer's channels now: their relays are probed every 2 s then."""
        if yes:
            self._in_use.add(peer)
        else:
            self._in_use.discard(peer)
        for link in self._links.values():
            self._set_in_use(link, now)

    def check(self, relay: Key, now: Instant) -> None:
        """What goes through this relay fell silent: see whether it lives, and tell it where we are now."""
        link = self._links.get(relay)
        if link is not None:
            link.announce(now)

    # What the node tells

    def set_network(self, network: Network, now: Instant) -> None:
        kinds = (PeerKind.TRUST, PeerKind.ROUTER)
        self._members = frozenset(peer.key for peer in network.peers if peer.kind in kinds)
        for link in list(self._links.values()):
            for channel in list(link.channels.values()):
                if channel.path in self._guests:
                    self._admit(channel, now)
                elif channel.peer not in self._members:
                    link.close(channel.path.channel, CloseReason.UNWANTED)
                    self._end(link, channel, now)
        self._reservations.members = self._members
        self._reservations.begin(now)

    def servers_changed(self, now: Instant) -> None:
        """There is a server to choose that was not there before, or we may need some now."""
        self._reservations.look(now)

    def local_changed(self, now: Instant) -> None:
        """Our sockets or addresses are others: what leads to the relays is too."""
        for link in list(self._links.values()):
            path = self._engine.addressing.path_to(link.path.remote)
            if path is None or path == link.path:
                link.announce(now)
            else:
                self._move(link, path, now)
        self._reservations.look(now)

    def session_opened(self, key: Key, now: Instant) -> None:
        """There is a new session with a node: if it is a relay that restarted, it has nothing of ours."""
        link = self._links.get(key)
        if link is not None:
            link.verify(now)

    def left(self, key: Key, now: Instant) -> None:
        """A node said LEAVING."""
        link = self._links.get(key)
        if link is not None:
            self.relay_lost(link, now)

    # Messages of relays that answer nothing

    def offered(self, event: MessageReceived, opened: Opened, now: Instant) -> None:
        """A peer opened a channel. Only a relay that we chose may say so, and of peers we trust."""
        link = self._links.get(event.peer)
        if link is None or event.path != link.path or not opened.channel or opened.status != RelayStatus.OK:
            return
        member = opened.peer in self._members
        known = link.channels.get(opened.channel)
        if known is not None and known.peer == opened.peer:
            self._told_again(link, known, opened.observed, now)
            return
        offered_by = opened.peer if member else None
        if not link.reserved or not self._offers.allow((link.key, offered_by), now.monotonic):
            return
        if member:
            self._take_channel(link, opened, now, by_us=False)
            link.open(opened.peer, now)
        elif self._welcome(now) and self._guests_of(link) < GUESTS_OF_RELAY:
            self._take_guest(link, opened, now)
        else:
            link.close(opened.channel, CloseReason.UNWANTED)

    def crowded_out(self, event: MessageReceived, now: Instant) -> None:
        """Our reservation has gone to somebody of a less crowded network."""
        link = self._links.get(event.peer)
        if link is not None and link.reserved and event.path == link.path:
            link.reserved_until = None
            self.reservation_changed(link, RelayStatus.FULL, now)

    def _guests_of(self, link: RelayLink) -> int:
        return sum(channel.path in self._guests for channel in link.channels.values())

    def _told_again(self, link: RelayLink, channel: Channel, observed: Address, now: Instant) -> None:
        """Both ends have asked for the channel; or the relay has not heard that we do."""
        self._observe(link, channel, observed)
        if not any(observed) and not channel.opened_by_us and channel.path not in self._guests:
            link.open(channel.peer, now)

    def _observe(self, link: RelayLink, channel: Channel, observed: Address) -> None:
        """Where the relay sees the peer; zeros where it does not say."""
        if any(observed):
            link.channels[channel.path.channel] = replace(channel, observed=observed)

    def _take_guest(self, link: RelayLink, opened: Opened, now: Instant) -> None:
        """Control may come through the channel, and answers go back; nothing is done about a path to the
        peer."""
        path = Path(link.path.socket, link.path.remote, opened.channel)
        if path in self._guests:
            return
        self._guests.add(path)
        self._take_channel(link, opened, now, by_us=False)
        self._engine.timers.call_at(now.monotonic + GUEST_S, lambda then: self._dismiss_guest(path, then))

    def _admit(self, channel: Channel, now: Instant) -> None:
        """A guest may have become a member."""
        link = self._links.get(channel.relay)
        if channel.peer in self._members and link is not None:
            self._guests.discard(channel.path)
            self._opened(channel, now)
            link.open(channel.peer, now)

    def _dismiss_guest(self, path: Path, now: Instant) -> None:
        """It has claimed nothing in its time."""
        if path in self._guests:
            self.close(path, now)

    def closed_by(self, event: MessageReceived, close: Close, now: Instant) -> None:
        """A relay says that a channel has ended."""
        link = self._links.get(event.peer)
        channel = link.channels.get(close.channel) if link is not None else None
        if link is None or channel is None:
            return
        if close.reason == CloseReason.UNWANTED:
            self._barred.note((channel.peer, link.key), now.monotonic)
        self._end(link, channel, now)

    # Opening channels

    def _may_open(self, peer: Key, relay: Relay, now: Instant) -> bool:
        if relay.key in (peer, self._engine.key) or (peer, relay.key) in self._attempts:
            return False
        link = self._links.get(relay.key)
        if link is not None and link.channel_to(peer) is not None:
            return False
        name, monotonic = (peer, relay.key), now.monotonic
        if self._refused.seen(name, monotonic) or self._barred.seen(name, monotonic):
            return False
        return link is not None or bool(self._ways.paths_to(relay, now))

    def _open_at(self, peer: Key, relays: list[Relay], now: Instant) -> None:
        """At the first of these relays; from a timer where there is none, so that open() never calls back."""
        while relays:
            relay, *others = relays
            link = self._link_to(relay, now)
            if link is not None:
                self._attempts[peer, relay.key] = others
                link.open(peer, now)
                return
            relays = others
        self._engine.timers.call_at(now.monotonic, lambda then: self._failed(peer, then))

    def _link_to(self, relay: Relay, now: Instant) -> RelayLink | None:
        known, paths = self._links.get(relay.key), self._ways.paths_to(relay, now)
        return known or (self.add_link(relay.key, paths, now) if paths else None)

    def channel_answered(self, link: RelayLink, peer: Key, opened: Opened | None, now: Instant) -> None:
        """See LinkOwner."""
        others = self._attempts.pop((peer, link.key), None)
        if opened is not None and opened.status == RelayStatus.OK and opened.peer == peer and opened.channel:
            self._take_channel(link, opened, now, by_us=True)
            return
        barred = opened is not None and opened.status == RelayStatus.BARRED
        (self._barred if barred else self._refused).note((peer, link.key), now.monotonic)
        channel = link.channel_to(peer)
        if opened is None and self._links.get(link.key) is link:
            link.probe(now)
        elif channel is not None:  # we asked whether it is still there
            self._end(link, channel, now)
        self.discard_if_unused(link)
        if others is not None:
            self._open_at(peer, [relay for relay in others if self._may_open(peer, relay, now)], now)

    def _take_channel(self, link: RelayLink, opened: Opened, now: Instant, *, by_us: bool) -> None:
        """A pair has one channel at a relay: another id means that the relay lost the one that we know."""
        known = link.channel_to(opened.peer)
        if known is not None and known.path.channel == opened.channel:
            self._observe(link, known, opened.observed)
            return
        stale = [each for each in (known, link.channels.get(opened.channel)) if each is not None]
        for each in stale:
            del link.channels[each.path.channel]
            self._engine.emit(DismissChannel(each.path))
        path = Path(link.path.socket, link.path.remote, opened.channel)
        channel = Channel(path, link.key, opened.peer, opened.observed, by_us)
        link.channels[opened.channel] = channel
        self._engine.emit(AdmitChannel(path))
        self._set_in_use(link, now)
        for each in stale:
            self._guests.discard(each.path)
            self._closed(each.peer, each.path, now)
        if path not in self._guests:
            self._opened(channel, now)

    def _end(self, link: RelayLink, channel: Channel, now: Instant) -> None:
        self._forget_channel(link, channel, now)
        self._closed(channel.peer, channel.path, now)

    def _forget_channel(self, link: RelayLink, channel: Channel, now: Instant) -> None:
        self._guests.discard(channel.path)
        self._engine.emit(DismissChannel(channel.path))
        link.channels.pop(channel.path.channel, None)
        self._set_in_use(link, now)
        self.discard_if_unused(link)

    def _set_in_use(self, link: RelayLink, now: Instant) -> None:
        peers = {channel.peer for channel in link.channels.values()}
        link.set_in_use(not self._in_use.isdisjoint(peers), now)

    def keeps_to(self, relay: Key, path: Path, now: Instant) -> bool:
        """Whether we use a relay on this path, as far as we know: false for one that we have left ourselves.
        One that we never knew is ours as copies of it are sent to us."""
        link = self._links.get(relay)
        return link is not None and (path == link.path or not self._left.seen((relay, path), now.monotonic))

    # Relays come and go

    def __iter__(self) -> Iterator[RelayLink]:
        """All that we use."""
        return iter(list(self._links.values()))

    def link(self, key: Key) -> RelayLink | None:
        return self._links.get(key)

    def _is_expecting(self, now: Instant) -> bool:
        """Somebody may want to reach us: a member, or who claims an alias."""
        return bool(self._members - {self._engine.key}) or self._welcome(now)

    def add_link(self, key: Key, paths: Sequence[Path], now: Instant) -> RelayLink:
        link = RelayLink(key, paths, self._engine, self._requests, self)
        self._links[key] = link
        link.watch(now)
        return link

    def _answered(self, key: Key, answer: Answer, now: Instant) -> None:
        link = self._links.get(key)
        if link is not None:
            link.heard(answer, now)
        elif isinstance(answer.message, Pong) and answer.message.capabilities & Capability.RELAY:
            self._reservations.answered(key, now)

    def reservation_changed(self, link: RelayLink, status: RelayStatus | None, now: Instant) -> None:
        """See LinkOwner."""
        self._reservations.link_changed(link, status, now)

    def relay_lost(self, link: RelayLink, now: Instant) -> None:
        """See LinkOwner."""
        self._links.pop(link.key, None)
        self._left.note((link.key, link.path), now.monotonic)
        link.cancel()
        for channel in list(link.channels.values()):
            self._refused.note((channel.peer, link.key), now.monotonic)
            self._guests.discard(channel.path)
            self._engine.emit(DismissChannel(channel.path))
            self._closed(channel.peer, channel.path, now)
        for peer in link.opening:
            self.channel_answered(link, peer, None, now)
        self._reservations.lost(link, now)

    def discard_if_unused(self, link: RelayLink) -> None:
        if link.unused and self._links.get(link.key) is link:
            del self._links[link.key]
            link.cancel()

    def _move(self, link: RelayLink, path: Path, now: Instant) -> None:
        self._left.note((link.key, link.path), now.monotonic)
        for before, after in link.move(path, now):
            self._engine.emit(DismissChannel(before.path))
            self._engine.emit(AdmitChannel(after.path))
            self._closed(before.peer, before.path, now)
            if before.path in self._guests:
                self.close(after.path, now)  # it opens another
            else:
                self._opened(after, now)
