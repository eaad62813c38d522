"""Reservations at relays, by which others reach us: where, how many, how long (docs/protocol.md 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from wh.dht.kademlia import Kademlia
from wh.engine.core import Engine
from wh.engine.events import TCP, Instant, Key, Path
from wh.engine.randomness import jittered
from wh.engine.timers import Alarm
from wh.relay.backoff import Backoff
from wh.relay.choosing import RESERVATIONS_MAX, Offer, choose_relays
from wh.relay.link import RESERVATION_S, RelayLink
from wh.wire.messages import Capability, RelayStatus
from wh.wire.records import Relay

SETTLE_S = 3.0
"""How long after the start we may still turn out to be reachable, where no NAT is seen and UDP works."""

FILL_AGAIN_S = 10.0
FILL_AGAIN_SHORT_S = 2.0
"""How often we look whether relays are missing, and for some where they are."""

RENEW_S = RESERVATION_S / 2

LOST_PAUSES_S = (1.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0, 30.0)
UNWILLING_PAUSES_S = (1.0, 10.0, 60.0, 300.0)
"""Until a relay that we lost, and one that gave no reservation, is asked again. Who answers a PING of anybody
is not lost any more."""


class Reachability(Protocol):
    """What we know of how others reach us: who is proved reachable needs no relay."""

    @property
    def proved(self) -> bool: ...

    @property
    def translated(self) -> bool | None: ...


class Links(Protocol):
    """The relays that we use, for whatever purpose (wh.relay.reserver.RelayClient)."""

    def __iter__(self) -> Iterator[RelayLink]: ...

    def link(self, key: Key) -> RelayLink | None: ...

    def add_link(self, key: Key, paths: Sequence[Path], now: Instant) -> RelayLink: ...

    def discard_if_unused(self, link: RelayLink) -> None: ...


class Reservations:
    """expected(now): whether there is anybody who may want to reach us. changed(now): `relays` says something
    new. short(now): more servers than are known would be of use."""

    def __init__(
        self,
        engine: Engine,
        kademlia: Kademlia,
        reachability: Reachability,
        links: Links,
        *,
        expected: Callable[[Instant], bool],
        changed: Callable[[Instant], None],
        short: Callable[[Instant], None],
    ) -> None:
        self.members: frozenset[Key] = frozenset()  # of our network
        self._engine = engine
        self._kademlia = kademlia
        self._reachability = reachability
        self._links = links
        self._expected = expected
        self._changed = changed
        self._short = short
        self._lost = Backoff(LOST_PAUSES_S)  # relays, as the next
        self._unwilling = Backoff(UNWILLING_PAUSES_S)
        self._settled_at = float("inf")
        self._next_fill = Alarm(engine.timers)
        self._next_renewal = Alarm(engine.timers)

    @property
    def relays(self) -> tuple[Relay, ...]:
        """Where others can open a channel to us, the nearest first."""
        held = sorted(self._reserved(), key=lambda link: link.rtt_ms)
        return tuple(map(self._as_published, held))

    def _as_published(self, link: RelayLink) -> Relay:
        known = self._engine.peers.get(link.key)
        tcp_port = known.tcp_port if known is not None else 0
        return Relay(link.key, link.path.remote, link.rtt_ms, int(link.path.socket == TCP), tcp_port)

    @property
    def until(self) -> int | None:
        """Unix seconds at which the first of them ends."""
        return min((link.reserved_until_unix for link in self._reserved()), default=None)

    def begin(self, now: Instant) -> None:
        """There is a network, or another one."""
        if self._settled_at == float("inf"):
            self._settled_at = now.monotonic + SETTLE_S
        self.look(now)

    def look(self, now: Instant) -> None:
        """There may be relays to choose that were not there before, or we may need some now."""
        if len(self._held()) < RESERVATIONS_MAX:
            self._fill_at(now.monotonic)

    def answered(self, key: Key, now: Instant) -> None:
        """A server that relays, but not for us, answered somebody's PING."""
        self._lost.succeeded(key)
        self.look(now)

    def lost(self, link: RelayLink, now: Instant) -> None:
        """A relay does not answer."""
        self._lost.failed(link.key, now.monotonic)
        self._fill_at(now.monotonic)
        if link.reserved:
            self._changed(now)

    def link_changed(self, link: RelayLink, status: RelayStatus | None, now: Instant) -> None:
        """What became of a reservation (wh.relay.link.LinkOwner)."""
        if status == RelayStatus.OK:
            self._unwilling.succeeded(link.key)
            self._lost.succeeded(link.key)
            self._schedule_renewal()
        else:
            self._unwilling.failed(link.key, now.monotonic)
            self._links.discard_if_unused(link)
            self._fill_at(now.monotonic)
        self._changed(now)

    def _reserved(self) -> Iterator[RelayLink]:
        return (link for link in self._links if link.reserved)

    def _held(self) -> list[RelayLink]:
        """Those that we have a reservation at, or asked for one."""
        return [link for link in self._links if link.reserved or link.reserving]

    def _needs_relays(self, now: Instant) -> bool:
        """Others must be able to reach us, and cannot by themselves."""
        if self._reachability.proved or not self._expected(now):
            return False
        hidden = bool(self._reachability.translated) or self._engine.addressing.udp_blocked
        return hidden or now.monotonic >= self._settled_at

    def _fill_at(self, when: float) -> None:
        self._next_fill.set_by(when, self._fill)

    def _fill(self, now: Instant) -> None:
        """Ask for reservations until there are three."""
        held = self._held()
        if self._needs_relays(now) and len(held) < RESERVATIONS_MAX:
            addresses = [link.path.remote for link in held]
            missing = RESERVATIONS_MAX - len(held)
            for offer in choose_relays(self._available(now), addresses, missing, self._engine.rng):
                link = self._links.link(offer.key) or self._links.add_link(offer.key, [offer.path], now)
                link.reserve(now)
            if len(self._held()) < RESERVATIONS_MAX:
                self._short(now)
        if now.monotonic < self._settled_at < float("inf"):
            self._fill_at(self._settled_at)
        else:
            short = self._needs_relays(now) and len(self._held()) < RESERVATIONS_MAX
            pause_s = FILL_AGAIN_SHORT_S if short else FILL_AGAIN_S
            self._fill_at(now.monotonic + jittered(self._engine.rng, pause_s))

    def _available(self, now: Instant) -> Iterator[Offer]:
        """Servers that relay and where we hold nothing, at addresses that mean something to others."""
        addressing = self._engine.addressing
        for contact in self._kademlia.table:
            silent = contact.dead and contact.key not in self._lost  # what we lost we try ourselves
            if silent or not contact.flags & Capability.RELAY:
                continue
            link = self._links.link(contact.key)
            busy = link is not None and (link.reserved or link.reserving)
            backoffs = self._lost, self._unwilling
            if busy or not all(each.may_try(contact.key, now.monotonic) for each in backoffs):
                continue
            path = addressing.path_to(contact.address)
            if path is not None and addressing.is_acceptable(contact.address):
                yield Offer(contact.key, path, contact.rtt.srtt, contact.key in self.members)

    def _schedule_renewal(self) -> None:
        """All at once, at half of the life of the oldest: our record changes with each."""
        until = min((link.reserved_until for link in self._reserved() if link.reserved_until), default=None)
        self._next_renewal.cancel()
        if until is not None:
            self._next_renewal.set(until - RENEW_S, self._renew)

    def _renew(self, now: Instant) -> None:
        for link in list(self._reserved()):
            if self._reachability.proved and not link.channels:
                link.release(now)
                self._links.discard_if_unused(link)
                self._changed(now)
            else:
                link.reserve(now)
