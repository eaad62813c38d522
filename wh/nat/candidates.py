"""Which of our addresses others are told, and which of them are proved (docs/protocol.md 4, 6, 7)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from wh.nat.behavior import NatBehaviour
from wh.wire.address import Address
from wh.wire.candidates import MAX_CANDIDATES, Candidate, CandidateFlag, Mapping


def own_candidates(
    own_addresses: Sequence[Address],
    behaviours: Iterable[NatBehaviour],
    proved: Collection[Address],
    *,
    declared_direct: bool,
    mapped: Iterable[Address] = (),
) -> tuple[Candidate, ...]:
    """At most 8, the proved ones first.

    own_addresses: of our interfaces, only those that mean something to others. proved: where a KNOCK arrived.
    declared_direct: the operator says that we are reachable, which counts as proof. mapped: what a gateway
    says it maps to us, of which nothing counts without a KNOCK.

    An address that only a translation gives us is published where it is proved, and in a network with too few
    witnesses to judge the translation. Elsewhere it is a reflexive address, which travels only in OFFER.
    """
    addresses: dict[Address, bool] = {address: True for address in mapped if address in proved}
    for behaviour in behaviours:
        translated = behaviour.mapping is not Mapping.NONE
        for address in behaviour.observed:
            confirmed = declared_direct or address in proved
            if confirmed or not translated or behaviour.mapping is Mapping.UNKNOWN:
                addresses[address] = confirmed
    for address in own_addresses:
        addresses.setdefault(address, declared_direct or address in proved)
    ordered = sorted(addresses, key=lambda address: not addresses[address])  # stable: confirmed first
    return tuple(
        Candidate(address, CandidateFlag.CONFIRMED if addresses[address] else 0)
        for address in ordered[:MAX_CANDIDATES]
    )


def offered_candidates(
    proved: Iterable[Address],
    mapped: Iterable[Address],
    reflexive: Iterable[Address],
    local: Iterable[Address],
) -> tuple[Candidate, ...]:
    """For OFFER and ANSWER, at most 8, the most promising first. mapped: what a gateway says it maps to us; a
    peer that tries it proves it. reflexive: where servers see the socket that will be used. local: our
    interfaces' addresses, private ones too: a peer may be in the same network."""
    flags: dict[Address, int] = {address: int(CandidateFlag.CONFIRMED) for address in proved}
    for address in mapped:
        flags.setdefault(address, 0)
    for address in reflexive:
        flags[address] = flags.get(address, 0) | CandidateFlag.REFLEXIVE
    for address in local:
        flags.setdefault(address, 0)
    return tuple(Candidate(address, flags[address]) for address in list(flags)[:MAX_CANDIDATES])
