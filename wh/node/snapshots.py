"""What is told of a running node (wh.node.status), taken from its parts."""

from __future__ import annotations

from wh.dht.table.contacts import TrackedContact
from wh.engine.events import Instant
from wh.node.parts import Parts
from wh.node.status import (
    CandidateStatus,
    ClockStatus,
    ContactStatus,
    NodeStatus,
    PeerStatus,
    Relayed,
    RelayStatus,
    Surroundings,
)
from wh.paths.trusted import TrustedPeer
from wh.wire.candidates import Candidate, CandidateFlag
from wh.wire.messages import Capability

RELAYS_TOLD_MAX = 16


def snapshot(parts: Parts) -> NodeStatus:
    """Everything but what takes time to find out."""
    table, reachability = parts.kademlia.table, parts.reachability
    relayed = Relayed(bool(reachability.capabilities & Capability.RELAY), *parts.relaying.served())
    return NodeStatus(
        key=parts.engine.key,
        mode=reachability.mode,
        server=reachability.proved,
        joined=parts.kademlia.joined,
        nat=str(reachability),
        translated=reachability.translated,
        candidates=tuple(map(_candidate_status, parts.candidates())),
        published=parts.publisher.published,
        key_elsewhere=parts.publisher.elsewhere or parts.twins.own,
        doubled=parts.twins.others,
        peers=tuple(_peer_status(parts, peer) for peer in parts.trusted),
        relays=_own_relays(parts),
        relayed=relayed,
        contacts=tuple(_contact_status(parts, contact) for contact in table),
        stored_records=len(parts.kademlia.store),
        size_estimate=max(round(parts.kademlia.size.servers), len(table) + reachability.proved),
        tcp_links=parts.fallback.links,
    )


def clocks(parts: Parts, now: Instant) -> ClockStatus:
    known = parts.kademlia.clocks
    return ClockStatus(known.slow_s(now), tuple(known.fast(now).items()))


def surroundings(parts: Parts) -> Surroundings:
    """The network around us, as far as it was measured."""
    reachability = parts.reachability
    return Surroundings(
        udp_blocked=reachability.udp_blocked,
        answered=parts.discovery.answered,
        local=tuple(sorted(parts.engine.addressing.local)),
        behaviours=tuple(reachability.behaviours()),
        hairpinning=reachability.hairpinning,
        proved_mappings=reachability.proved_mappings,
        relays=_relays_nearby(parts),
    )


def _candidate_status(candidate: Candidate) -> CandidateStatus:
    return CandidateStatus(candidate.address, bool(candidate.flags & CandidateFlag.CONFIRMED))


def _contact_status(parts: Parts, contact: TrackedContact) -> ContactStatus:
    return ContactStatus(
        contact.key,
        contact.address,
        _milliseconds(contact.rtt.srtt),
        bootstrap=contact.key in parts.discovery.bootstraps,
        alive=not contact.dead,
    )


def _peer_status(parts: Parts, peer: TrustedPeer) -> PeerStatus:
    known, first = parts.engine.peers.obtain(peer.key), peer.routes.first
    round_trip = peer.routes.round_trip_s(first) if first is not None else None
    return PeerStatus(
        key=peer.key,
        state=peer.state.value,
        endpoint=first.remote if first is not None else None,
        relay=peer.relay_of(first) if first is not None else None,
        mtu=peer.routes.mtu(first) if first is not None else 0,
        rtt_ms=_milliseconds(round_trip if round_trip is not None else known.round_trip.srtt),
        heard_at=known.heard_at,
        candidates=peer.candidates,
        why_relayed=peer.why_relayed,
        without_ipv6=peer.key in parts.overlay_ipv6.lacking,
    )


def _own_relays(parts: Parts) -> tuple[RelayStatus, ...]:
    return tuple(RelayStatus(relay.key, relay.address, relay.rtt_ms) for relay in parts.relays.relays)


def _relays_nearby(parts: Parts) -> tuple[RelayStatus, ...]:
    """Those that keep a place for us, and servers that would; the nearest first."""
    found = {relay.key: relay for relay in _own_relays(parts)}
    for contact in parts.kademlia.table:
        if contact.flags & Capability.RELAY and not contact.dead:
            rtt_ms = _milliseconds(contact.rtt.srtt)
            found.setdefault(contact.key, RelayStatus(contact.key, contact.address, rtt_ms, reserved=False))
    by_rtt = sorted(found.values(), key=lambda relay: (relay.rtt_ms is None, relay.rtt_ms or 0.0))
    return tuple(by_rtt)[:RELAYS_TOLD_MAX]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
