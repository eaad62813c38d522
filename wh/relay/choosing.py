"""Which relays a client takes, the ways to them, and what it knows of a channel (docs/protocol.md 8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from wh.dht.kademlia import Kademlia
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.randomness import Randomness
from wh.wire.address import Address, prefix
from wh.wire.records import Relay

RESERVATIONS_MAX = 3
SAMPLE = 8
"""Of so many random servers the nearest are taken."""

UNKNOWN_RTT_S = 0.2
"""What a server that was not measured yet counts as."""

LATELY_S = 60.0
"""An address that a relay answered at this recently needs no proof."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel to a peer as its client sees it. path: what to send on: our socket, the relay's address, our
    leg. observed: the peer's address as the relay sees it; zeros where it tells none."""

    path: Path
    relay: Key
    peer: Key
    observed: Address
    opened_by_us: bool

    def at(self, path: Path) -> Channel:
        """The same channel by another way to its relay."""
        return replace(self, path=Path(path.socket, path.remote, self.path.channel))


@dataclass(frozen=True, slots=True)
class Offer:
    """A server that takes reservations. rtt_s: None where it was not measured."""

    key: Key
    path: Path
    rtt_s: float | None
    member: bool  # of our own network file


def choose_relays(
    offers: Iterable[Offer], held: Iterable[Address], wanted: int, rng: Randomness
) -> list[Offer]:
    """At most `wanted` more relays besides those `held`: members first, then the nearest of SAMPLE random
    others; each in a /16 (IPv6: /32) of its own as far as there are such, else any."""
    every = list(offers)
    members = sorted((offer for offer in every if offer.member), key=_rtt)
    others = [offer for offer in every if not offer.member]
    ranked = members + sorted(rng.sample(others, min(SAMPLE, len(others))), key=_rtt)
    networks = {_network(address) for address in held}
    chosen: list[Offer] = []
    for offer in ranked:
        network = _network(offer.path.remote)
        if len(chosen) < wanted and network not in networks:
            networks.add(network)
            chosen.append(offer)
    rest = [offer for offer in ranked if offer not in chosen]
    return chosen + rest[: wanted - len(chosen)]


class Ways:
    """To the relays of peers, as far as this node knows them."""

    def __init__(self, engine: Engine, kademlia: Kademlia) -> None:
        self._engine = engine
        self._kademlia = kademlia

    def paths_to(self, relay: Relay, now: Instant) -> list[Path]:
        """Where we talked with it lately; else where the peer reaches it and where we know it as a server:
        the peer may have another address family than we."""
        addressing = self._engine.addressing
        contact, lately = self._kademlia.table.get(relay.key), self._lately_at(relay.key, now)
        if lately is not None and (path := addressing.path_to(lately)) is not None:
            return [path]
        addresses = [relay.address] if addressing.is_acceptable(relay.address) else []
        addresses += [contact.address] if contact is not None else []
        return addressing.paths_to(addresses)

    def rtt_s(self, relay: Relay) -> float:
        """Of the whole way, through the relay to the peer."""
        known = self._engine.peers.get(relay.key)
        return way_rtt_s(known.round_trip.srtt if known is not None else None, relay.rtt_ms)

    def _lately_at(self, relay: Key, now: Instant) -> Address | None:
        known = self._engine.peers.get(relay)
        path = known.last_direct_path if known is not None and known.session else None
        if known is None or path is None or not known.is_validated(path, now, LATELY_S):
            return None
        return path.remote


def way_rtt_s(to_relay_s: float | None, to_peer_ms: int) -> float:
    """Of a path through a relay. to_relay_s: None where it was not measured."""
    return (UNKNOWN_RTT_S if to_relay_s is None else to_relay_s) + to_peer_ms / 1000


def _rtt(offer: Offer) -> float:
    return UNKNOWN_RTT_S if offer.rtt_s is None else offer.rtt_s


def _network(address: Address) -> bytes:
    return prefix(address, 16, 32)
