"""Which servers are worth being remembered over a restart."""

from __future__ import annotations

from wh.dht.table.contacts import MAX_FAILURES, TrackedContact
from wh.dht.table.memory import REMEMBERED_MAX, worth_remembering
from wh.wire.address import is_v4, pack


def contact(number: int, address: str, since: float) -> TrackedContact:
    return TrackedContact(number.to_bytes(32, "big"), pack(address, 1), 1, since)


def test_the_oldest_of_each_network_come_first_and_dead_ones_not_at_all():
    old, young = contact(1, "20.1.1.1", 0.0), contact(2, "20.1.2.1", 1.0)
    elsewhere, dead = contact(3, "20.2.1.1", 2.0), contact(4, "20.3.1.1", 0.0)
    dead.failures = MAX_FAILURES
    kept = worth_remembering([dead, elsewhere, young, old])
    assert [each.key for each in kept] == [old.key, elsewhere.key, young.key]


def test_both_families_are_kept():
    many = [contact(number, f"20.{number}.1.1", 0.0) for number in range(1, 200)]
    few = [contact(1000 + number, f"2001:db8:{number:x}::1", 50.0) for number in range(5)]
    kept = worth_remembering([*many, *few])
    assert len(kept) == REMEMBERED_MAX
    assert sum(not is_v4(each.address) for each in kept) == 5
