"""The record store: bounds, and which record wins."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wh.dht.records.storage import MAX_NEARER_SERVERS, RecordStore
from wh.dht.table.metric import distance
from wh.wire.address import Address, is_private, pack, prefix
from wh.wire.messages import PutStatus
from wh.wire.records import Record

OWN = bytes(32)
NOW = 1_800_000_000
CAPACITY = 12
NETWORK_LIMIT = 5


def key_at(gap: int) -> bytes:
    """The key at this distance from us."""
    return gap.to_bytes(32, "big")


def record(gap: int, sequence: int = 1, ttl: int = 3600, text: bytes = b"signed bytes") -> Record:
    return Record(key=key_at(gap), sequence=sequence, expiry=NOW + ttl, encoded=text)


def public(number: int) -> Address:
    return pack(f"198.51.{number}.1", 62096)


SOMEBODY = public(0)


def store(capacity: int = CAPACITY) -> RecordStore:
    return RecordStore(OWN, capacity=capacity, network_limit=NETWORK_LIMIT)


def put(target: RecordStore, item: Record, source: Address = SOMEBODY, nearer: int = 0, unix: float = NOW):
    return target.put(item, source, nearer_servers=nearer, unix=unix)


sources = st.one_of(st.builds(public, st.integers(0, 4)), st.just(pack("10.0.0.1", 1)))


class AnyPuts(RuleBasedStateMachine):
    """The store against a plain dictionary."""

    @initialize()
    def start(self):
        self.store = store()
        self.unix = float(NOW)
        self.model: dict[bytes, tuple[Record, Address]] = {}

    def live(self) -> dict[bytes, Record]:
        return {key: held for key, (held, _) in self.model.items() if held.expiry > self.unix}

    def rivals(self, live: dict[bytes, Record], newcomer: Address) -> list[bytes]:
        """Whose place it takes: keys from the /16, then the /24 that has two more than its own."""
        for bits in (16, 24):
            networks = {key: prefix(self.model[key][1], bits, 8 * bits) for key in live}
            counts = Counter(networks.values())
            own = prefix(newcomer, bits, 8 * bits)
            if bits == 24:
                counts = Counter({each: n for each, n in counts.items() if each[:14] == own[:14]})
            crowded = [
                each for each, n in counts.items() if n >= counts[own] + 2 and n == max(counts.values())
            ]
            if crowded:
                return [key for key, network in networks.items() if network in crowded]
        return []

    @rule(gap=st.integers(1, 40), sequence=st.integers(1, 4), ttl=st.integers(1, 4000), source=sources)
    def put(self, gap, sequence, ttl, source):
        item = Record(
            key=key_at(gap), sequence=sequence, expiry=int(self.unix) + ttl, encoded=b"%d" % sequence
        )
        held = self.live().get(item.key)
        before = self.live()
        result = put(self.store, item, source, unix=self.unix)
        if result.status is PutStatus.STORED and (held is None or sequence > held.sequence):
            self.model[item.key] = (item, source)
            assert result.sequence == sequence
            assert ttl - 1 <= result.ttl <= ttl
        elif held is not None and sequence <= held.sequence:
            assert result.status is (PutStatus.STORED if sequence == held.sequence else PutStatus.OUTDATED)
            assert result.sequence == held.sequence
        else:
            assert result.status is PutStatus.FULL
        gone = [key for key in before if self.store.get(key, self.unix) is None]
        for key in gone:
            assert len(before) == CAPACITY, "evicted although there was room"
            rivals = self.rivals(before, source)
            assert (
                key in rivals if rivals else distance(key, OWN) == max(distance(each, OWN) for each in before)
            )
            assert rivals or distance(key, OWN) > distance(item.key, OWN)
            del self.model[key]
        assert len(gone) <= 1

    @rule(seconds=st.integers(0, 2000), expire=st.booleans())
    def wait(self, seconds, expire):
        self.unix += seconds
        if expire:
            self.store.expire(self.unix)
            assert len(self.store) == len(self.live())

    @invariant()
    def holds_what_the_dictionary_holds(self):
        live = self.live()
        for gap in range(1, 41):
            held = self.store.get(key_at(gap), self.unix)
            expected = live.get(key_at(gap))
            assert (held and (held.sequence, held.encoded)) == (
                expected and (expected.sequence, expected.encoded)
            )

    @invariant()
    def is_bounded(self):
        assert len(self.store) <= CAPACITY
        per_network = Counter(
            prefix(source, 24, 48)
            for key, (held, source) in self.model.items()
            if not is_private(source) and held.expiry > self.unix
        )
        assert max(per_network.values(), default=0) <= NETWORK_LIMIT


AnyPuts.TestCase.settings = settings(derandomize=True, deadline=None, max_examples=60, stateful_step_count=50)
TestAnyPuts = AnyPuts.TestCase


def test_the_same_sequence_again_changes_nothing():
    kept = store()
    put(kept, record(1, sequence=7, text=b"first"))
    again = put(kept, record(1, sequence=7, text=b"second"), source=public(1))
    assert again == (PutStatus.STORED, 7, 3600)
    assert kept.get(key_at(1), NOW).encoded == b"first"


def test_a_record_for_others_is_refused_only_with_forty_nearer_servers():
    kept = store()
    assert put(kept, record(1), nearer=MAX_NEARER_SERVERS - 1).status is PutStatus.STORED
    assert put(kept, record(2), nearer=MAX_NEARER_SERVERS).status is PutStatus.TOO_FAR
    # What we hold is renewed all the same: an old version would be worse than none.
    assert put(kept, record(1, sequence=2), nearer=MAX_NEARER_SERVERS).status is PutStatus.STORED


def test_an_expired_record_gives_way_to_any_sequence():
    kept = store()
    put(kept, record(1, sequence=9, ttl=10))
    assert kept.get(key_at(1), NOW + 9) is not None
    assert kept.get(key_at(1), NOW + 10) is None
    assert put(kept, record(1, sequence=1), unix=NOW + 10) == (PutStatus.STORED, 1, 3590)


def test_a_full_store_keeps_the_nearest():
    kept = store()
    for gap in range(10, 10 + CAPACITY):
        put(kept, record(gap), source=public(gap))
    assert put(kept, record(99), source=public(99)).status is PutStatus.FULL
    assert put(kept, record(1), source=public(99)).status is PutStatus.STORED
    assert kept.get(key_at(10 + CAPACITY - 1), NOW) is None
    assert len(kept) == CAPACITY


def test_a_full_store_takes_places_from_the_most_crowded_network():
    """However near the keys are that it has made for itself."""
    kept = store()
    for gap in range(1, CAPACITY + 1):
        put(kept, record(gap), source=pack(f"20.{gap % 3}.{gap}.9", 1))
    for number in range(4):
        honest = record(100 + number)
        assert put(kept, honest, source=pack(f"30.{number}.0.1", 1)).status is PutStatus.STORED
    assert [kept.get(key_at(100 + number), NOW) is not None for number in range(4)] == [True] * 4
    assert len(kept) == CAPACITY


def test_what_has_expired_makes_room_for_anything():
    kept = store()
    for gap in range(1, CAPACITY + 1):
        put(kept, record(gap, ttl=10 if gap == 1 else 3600), source=public(gap))
    assert put(kept, record(99), source=public(99), unix=NOW + 10).status is PutStatus.STORED
    assert len(kept) == CAPACITY


def test_one_network_fills_its_share_only_and_may_renew_what_it_put():
    kept = store()
    for gap in range(NETWORK_LIMIT):
        assert put(kept, record(gap + 1)).status is PutStatus.STORED
    assert put(kept, record(30)).status is PutStatus.FULL
    assert put(kept, record(1, sequence=2)).status is PutStatus.STORED
    assert put(kept, record(30), source=public(1)).status is PutStatus.STORED
    kept.expire(NOW + 3600)
    assert put(kept, record(31), unix=NOW + 3600 - 1).status is PutStatus.STORED


@pytest.mark.parametrize("source", ["10.0.0.1", "fd00::1"])
def test_a_private_network_is_not_limited(source):
    kept = store()
    assert {put(kept, record(gap + 1), source=pack(source, 1)).status for gap in range(CAPACITY)} == {
        PutStatus.STORED
    }
