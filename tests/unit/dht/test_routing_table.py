"""The routing table: invariants under any sequence of events, and agreement with slow oracles."""

from __future__ import annotations

import json
import random
from base64 import urlsafe_b64decode
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from wh.dht.table.contacts import MAX_FAILURES
from wh.dht.table.metric import K, bucket_index, distance
from wh.dht.table.routing_table import (
    BUCKET_REFRESH_S,
    MAX_OF_LARGE_NETWORK_IN_BUCKET,
    MAX_OF_LARGE_NETWORK_IN_TABLE,
    MAX_OF_NETWORK_IN_BUCKET,
    MAX_OF_NETWORK_IN_TABLE,
    MAX_OF_SOURCE_IN_BUCKET,
    REPLACEMENT_CACHE_LEN,
    SOURCES_FROM,
    THIN_REFRESH_S,
    Added,
    RoutingTable,
)
from wh.dht.table.size_estimate import SizeEstimate
from wh.wire.address import Address, is_private, pack, prefix
from wh.wire.messages import Capability, Contact

deterministic = settings(derandomize=True, deadline=None)

OWN = bytes(32)
SERVER = Capability.SERVER


def key_in_bucket(index: int, number: int) -> bytes:
    """The number-th key that shares index - 1 leading bits with OWN."""
    return ((1 << (256 - index)) | number).to_bytes(32, "big")


def address_in(network: int, host: int = 1) -> Address:
    """A public address; network picks the /16."""
    return pack(f"{20 + network % 150}.{network // 150}.0.{host}", 62096)


def server(index: int, number: int, network: int | None = None) -> Contact:
    """A server, in a /24 of its own unless told."""
    return Contact(
        key_in_bucket(index, number), address_in(index * 256 + number if network is None else network), SERVER
    )


def full_bucket(index: int = 1) -> RoutingTable:
    table = RoutingTable(OWN, 0.0)
    for number in range(K):
        assert table.add(server(index, number), float(number)) is Added.INSERTED
    return table


def fail(table: RoutingTable, key: bytes, times: int = MAX_FAILURES) -> None:
    for _ in range(times):
        table.on_failure(key)


indices = st.sampled_from([1, 1, 1, 2, 2, 3, 9])
numbers = st.integers(0, 39)
networks = st.integers(0, 24)
contacts = st.builds(
    lambda index, number, network, private: Contact(
        key_in_bucket(index, number), pack("10.0.0.1", 1) if private else address_in(network), SERVER
    ),
    indices,
    numbers,
    networks,
    st.sampled_from([True, True, False]),
)
any_key = st.one_of(
    st.binary(min_size=32, max_size=32), st.builds(key_in_bucket, indices, numbers), st.just(OWN)
)


class AnyHistory(RuleBasedStateMachine):
    """Whatever comes and goes, in whatever order."""

    known = Bundle("known")

    @initialize(protected=st.lists(st.builds(key_in_bucket, indices, numbers), max_size=3))
    def start(self, protected):
        self.now = 0.0
        self.table = RoutingTable(OWN, self.now)
        self.protected = set(protected)
        self.table.set_protected(protected)

    def live(self) -> set[bytes]:
        return {contact.key for contact in self.table if not contact.dead}

    @rule(target=known, contact=contacts)
    def add(self, contact):
        before = self.live()
        addresses = {each.key: each.address for each in self.table}
        self.now += 1
        outcome = self.table.add(contact, self.now)
        assert before <= self.live(), "a new contact displaced a live one"
        assert (contact.key in self.live()) == (
            outcome in (Added.INSERTED, Added.REFRESHED) or contact.key in before
        )
        for key, address in addresses.items():
            if key != contact.key and key in self.table:
                assert self.table.get(key).address == address
        return contact.key

    @rule(key=known)
    def turn_into_a_client(self, key):
        known = self.table.get(key)
        address = known.address if known else address_in(0)
        self.table.add(Contact(key, address, 0), self.now)
        assert (key in self.table) <= (key in self.protected)

    @rule(key=known)
    def answer(self, key):
        self.table.on_answer(key, self.now)
        contact = self.table.get(key)
        assert contact is None or not contact.dead

    @rule(key=known, times=st.integers(1, MAX_FAILURES))
    def fail(self, key, times):
        before = self.live()
        fail(self.table, key, times)
        assert before - {key} <= self.live()

    @rule(key=known)
    def leave(self, key):
        was_there = key in self.table
        self.table.remove(key)
        assert (key in self.table) == (was_there and key in self.protected)

    @rule(near=any_key, count=st.integers(0, 70), include_dead=st.booleans())
    def closest_is_what_sorting_everything_gives(self, near, count, include_dead):
        everyone = [each for each in self.table if include_dead or not each.dead]
        oracle = sorted(everyone, key=lambda each: distance(each.key, near))[:count]
        assert self.table.closest(near, count, include_dead=include_dead) == oracle

    @rule(near=any_key)
    def count_nearer_is_what_counting_gives(self, near):
        oracle = [key for key in self.live() if distance(key, near) < distance(OWN, near)]
        assert self.table.count_nearer(near) == len(oracle)

    @invariant()
    def buckets_and_caches_are_bounded(self):
        sizes = Counter(bucket_index(OWN, contact.key) for contact in self.table)
        assert all(size <= K for size in sizes.values())
        assert all(len(bucket.cache) <= REPLACEMENT_CACHE_LEN for bucket in self.table._buckets.values())

    @invariant()
    def nobody_is_in_a_bucket_and_its_cache(self):
        cached = [each.key for bucket in self.table._buckets.values() for each in bucket.cache]
        assert len(cached) == len(set(cached))
        assert not set(cached) & {each.key for each in self.table}

    @invariant()
    def networks_keep_to_their_share(self):
        of_table: Counter[bytes] = Counter()
        of_bucket: Counter[tuple[int, bytes]] = Counter()
        of_large: Counter[bytes] = Counter()
        of_bucket_large: Counter[tuple[int, bytes]] = Counter()
        for contact in self.table:
            if contact.key not in self.protected and not is_private(contact.address):
                network = prefix(contact.address, 24, 48)
                of_table[network] += 1
                of_bucket[bucket_index(OWN, contact.key), network] += 1
                large = prefix(contact.address, 16, 32)
                of_large[large] += 1
                of_bucket_large[bucket_index(OWN, contact.key), large] += 1
        assert max(of_table.values(), default=0) <= MAX_OF_NETWORK_IN_TABLE
        assert max(of_bucket.values(), default=0) <= MAX_OF_NETWORK_IN_BUCKET
        assert max(of_large.values(), default=0) <= MAX_OF_LARGE_NETWORK_IN_TABLE
        assert max(of_bucket_large.values(), default=0) <= MAX_OF_LARGE_NETWORK_IN_BUCKET


AnyHistory.TestCase.settings = settings(
    derandomize=True, deadline=None, max_examples=60, stateful_step_count=60
)
TestAnyHistory = AnyHistory.TestCase


def test_a_full_bucket_sends_new_contacts_to_its_cache():
    table = full_bucket()
    assert table.add(server(1, K), 100.0) is Added.CACHED
    assert server(1, K).key not in table
    assert table.add(server(2, 0), 100.0) is Added.INSERTED


def test_the_third_failure_lets_the_newest_of_the_cache_in():
    table = full_bucket()
    for number in range(K, K + REPLACEMENT_CACHE_LEN + 1):
        table.add(server(1, number), 100.0)
    victim = server(1, 3).key
    fail(table, victim, MAX_FAILURES - 1)
    assert victim in table
    assert table.on_failure(victim)
    assert victim not in table
    assert server(1, K + REPLACEMENT_CACHE_LEN).key in table


def test_the_cache_keeps_the_ten_seen_last_once_each():
    table = full_bucket()
    newest = K + REPLACEMENT_CACHE_LEN
    for number in (*range(K, newest + 1), newest - 2):
        assert table.add(server(1, number), 100.0) is Added.CACHED
    for number in range(K):
        fail(table, server(1, number).key)
    promoted = {contact.key for contact in table if not contact.dead}
    assert promoted == {server(1, number).key for number in range(K + 1, newest + 1)}


def test_an_answer_between_failures_counts_as_life():
    table = full_bucket()
    table.add(server(1, K), 100.0)
    victim = server(1, 0).key
    fail(table, victim, MAX_FAILURES - 1)
    table.on_answer(victim, 101.0)
    fail(table, victim, MAX_FAILURES - 1)
    assert victim in table


def test_the_dead_stay_until_there_is_somebody_else_but_are_given_to_nobody():
    """All contacts look dead while our own link is down; they are what a node joins with afterwards."""
    table = full_bucket()
    for number in range(K):
        fail(table, server(1, number).key)
    assert len(table) == K
    assert table.closest(OWN, K) == []
    assert len(table.closest(OWN, K, include_dead=True)) == K
    assert table.add(server(1, K), 200.0) is Added.INSERTED
    assert len(table) == K
    table.on_answer(server(1, 5).key, 201.0)
    assert {each.key for each in table.closest(OWN, K)} == {server(1, 5).key, server(1, K).key}


def test_ten_of_one_network_in_the_whole_table():
    table = RoutingTable(OWN, 0.0)
    outcomes = [table.add(server(index, 0, network=7), 0.0) for index in range(1, 13)]
    assert outcomes == [Added.INSERTED] * 10 + [Added.REFUSED] * 2
    fail(table, server(4, 0).key)
    assert table.add(server(12, 0, network=7), 0.0) is Added.INSERTED
    assert server(4, 0).key not in table


def test_a_move_into_a_crowded_network_is_refused_and_any_other_is_followed():
    table = RoutingTable(OWN, 0.0)
    for number in range(3):
        table.add(server(1, number, network=7 if number < 2 else 8), 0.0)
    mover = server(1, 2, network=8)
    assert table.add(Contact(mover.key, address_in(7, 9), SERVER), 1.0) is Added.REFUSED
    assert table.get(mover.key).address == mover.address
    assert table.add(Contact(mover.key, address_in(9), SERVER), 2.0) is Added.REFRESHED
    assert table.get(mover.key).address == address_in(9)
    assert table.add(server(1, 3, network=8), 3.0) is Added.INSERTED


def test_bootstraps_need_no_flag_and_are_never_evicted():
    table = full_bucket(index=2)
    bootstrap = Contact(key_in_bucket(1, 0), address_in(7), 0)
    assert table.add(bootstrap, 0.0) is Added.REFUSED
    table.set_protected([bootstrap.key])
    assert table.add(bootstrap, 0.0) is Added.INSERTED
    for number in range(1, K + 5):
        table.add(server(1, number), 1.0)
    fail(table, bootstrap.key)
    table.remove(bootstrap.key)
    assert bootstrap.key in table
    table.set_protected([])
    assert bootstrap.key not in table, "it is no server, and no bootstrap any more"


def test_we_are_not_in_our_own_table():
    table = RoutingTable(OWN, 0.0)
    assert table.add(Contact(OWN, address_in(1), SERVER), 0.0) is Added.REFUSED
    table.remove(OWN)
    table.on_lookup(OWN, 0.0)
    assert len(table) == 0


def test_a_thin_bucket_is_refreshed_after_thirty_minutes_and_a_full_one_after_four_hours():
    table = RoutingTable(OWN, 0.0)
    for number in range(K):
        table.add(server(3, number), 10.0)
    table.on_lookup(key_in_bucket(2, 77), 60.0)
    assert table.buckets_to_refresh(THIN_REFRESH_S - 1) == []
    assert table.buckets_to_refresh(THIN_REFRESH_S) == [1]
    assert table.buckets_to_refresh(THIN_REFRESH_S + 60) == [1, 2]
    assert table.buckets_to_refresh(BUCKET_REFRESH_S) == [1, 2, 3]


def test_a_node_that_is_new_here_has_all_its_buckets_to_look_up():
    table = RoutingTable(OWN, float("-inf"))
    for number in range(K):
        table.add(server(3, number), 10.0)
    assert table.buckets_to_refresh(0.0) == [1, 2, 3]
    for index in (1, 2, 3):
        table.on_lookup(key_in_bucket(index, 0), 1.0)
    assert table.buckets_to_refresh(2.0) == []
    table.forget_lookups()
    assert table.buckets_to_refresh(2.0) == [1, 2, 3]


def test_a_large_network_of_a_tenant_takes_few_places_and_leaves_the_rest():
    """65,536 /48 of one IPv6 /32 come first, 2,000 honest servers after them."""
    rng = random.Random(5)
    table = RoutingTable(OWN, 0.0)
    for number in range(4000):
        table.add(Contact(rng.randbytes(32), pack(f"2001:db8:{number:x}::1", 62096), SERVER), 0.0)
    assert len(table) <= MAX_OF_LARGE_NETWORK_IN_TABLE
    empty = RoutingTable(OWN, 0.0)
    for number in range(2000):
        honest = Contact(rng.randbytes(32), address_in(number), SERVER)
        table.add(honest, 1.0)
        empty.add(honest, 1.0)
    honest_in_table = sum(not each.address.startswith(b"\x20\x01") for each in table)
    assert honest_in_table >= len(empty) - MAX_OF_LARGE_NETWORK_IN_TABLE


def test_nobodys_word_alone_fills_a_bucket():
    table = RoutingTable(OWN, 0.0)
    liar, another = key_in_bucket(9, 1), key_in_bucket(9, 2)
    for number in range(SOURCES_FROM):
        table.add(server(2, number), 0.0)
    for number in range(2 * K):
        table.add(server(1, number), 0.0, liar)
    assert sum(each.source == liar for each in table) == MAX_OF_SOURCE_IN_BUCKET
    assert table.add(server(1, 2 * K), 0.0, another) is Added.INSERTED
    assert table.add(server(1, 2 * K + 1), 0.0) is Added.INSERTED
    table.add(server(1, 0), 1.0)
    assert table.get(server(1, 0).key).source is None, "it came by itself too"


@deterministic
@given(st.binary(min_size=32, max_size=32), st.integers(1, 256), st.integers(0, 2**32))
def test_a_refresh_target_lies_in_its_bucket(own, index, seed):
    target = RoutingTable(own, 0.0).refresh_target(index, random.Random(seed).randbytes)
    assert bucket_index(own, target) == index


@deterministic
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_bucket_index_counts_the_common_prefix(a, b):
    bits = [f"{int.from_bytes(key, 'big'):0256b}" for key in (a, b)]
    common = next((i for i in range(256) if bits[0][i] != bits[1][i]), 256)
    assert bucket_index(a, b) == common + 1


def test_bucket_indices_are_those_of_the_original():
    vectors = json.loads((Path(__file__).parents[2] / "vectors/wirehub_keys.json").read_text())[
        "bucket_index"
    ]
    assert vectors
    for a, b, index in vectors:
        ours = bucket_index(*(urlsafe_b64decode(key + "=") for key in (a, b)))
        assert min(ours, 256) == index


def test_the_size_estimate_is_near_the_truth_and_not_moved_by_one_crowded_key():
    rng = random.Random(5)
    for servers in (5, 60, 2000):
        network = [rng.randbytes(32) for _ in range(servers)]
        estimate = SizeEstimate()
        for _ in range(7):
            target = rng.randbytes(32)
            estimate.add_sample(target, sorted(network, key=lambda key: distance(key, target))[:K])
        assert 0.6 * servers < estimate.servers < 1.7 * servers
        inside = sum(distance(key, network[0]) <= estimate.radius for key in network)
        assert min(servers, K) * 0.4 < inside <= 2.5 * K
        before = estimate.servers
        crowded = rng.randbytes(32)
        estimate.add_sample(crowded, [crowded[:8] + rng.randbytes(24) for _ in range(K)])
        assert estimate.servers < 1.5 * before


def test_no_sample_means_nothing_is_known():
    estimate = SizeEstimate()
    estimate.add_sample(OWN, [])
    assert (estimate.servers, estimate.radius) == (0, 0)
