"""Which servers are worth a place in the state file (docs/protocol.md section 5)."""

from __future__ import annotations

from collections.abc import Iterable

from wh.dht.table.contacts import TrackedContact
from wh.dht.table.diversity import networks_of
from wh.wire.address import is_v4
from wh.wire.messages import Contact

REMEMBERED_MAX = 32


def worth_remembering(contacts: Iterable[TrackedContact], limit: int = REMEMBERED_MAX) -> tuple[Contact, ...]:
    """Those that have been there longest, of each /16 (IPv6: /32) one before a second; IPv4 and IPv6 in turn
    as long as there are both, so that a host which comes back with one of them only knows somebody too."""
    oldest_first = sorted((each for each in contacts if not each.dead), key=lambda each: each.since)
    ranks: dict[bytes, int] = {}
    families: dict[bool, list[tuple[int, float, TrackedContact]]] = {True: [], False: []}
    for contact in oldest_first:
        network = networks_of(contact.address)[1]
        ranks[network] = ranks.get(network, -1) + 1
        families[is_v4(contact.address)].append((ranks[network], contact.since, contact))
    ordered = [sorted(family, key=lambda each: each[:2]) for family in families.values()]
    places = [
        (place, number, each[2]) for number, family in enumerate(ordered) for place, each in enumerate(family)
    ]
    chosen = sorted(places, key=lambda each: each[:2])[:limit]
    return tuple(contact.to_wire() for _, _, contact in chosen)
