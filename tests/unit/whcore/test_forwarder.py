"""Relay channels against a relay searched by eye, and beside a thread that changes them."""

import itertools
import random
import sys
import threading
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from fake_relay import (
    BIT_31,
    DAY,
    HEADER_LEN,
    SECOND,
    Bucket,
    Channel,
    Place,
    Relay,
    cut,
    datagram,
    header,
    place,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from whcore.channels import (
    CHANNELS_MAX,
    DROP_REASONS,
    MIXED,
    Forwarded,
    ForwardTable,
    decode_channel_untrusted,
    encode_channel,
)
from whcore.errors import SystemFailure

# --- the table against the oracle -------------------------------------------------------------------------

places = st.builds(place, st.integers(0, 3), st.integers(0, 1))
# Rates at which a byte takes whole nanoseconds, so that fractions and nanoseconds agree.
rates = st.sampled_from([0, 1_000, 1_000_000])
bursts = st.sampled_from([100, 3_000, 1 << 20])
quotas = st.sampled_from([0, 0, 500, 20_000])
segment_lens = st.sampled_from([12, 13, 32, 100, 1432])


class Comparison(RuleBasedStateMachine):
    """Channels come, move, talk and go; table and oracle must answer alike at every step."""

    ids: Bundle[tuple[int, int]] = Bundle("ids")

    @initialize(target=ids, rate=rates, burst=bursts, day_quota=st.sampled_from([0, 30_000]))
    def start(self, rate: int, burst: int, day_quota: int) -> tuple[int, int]:
        self.now = 0
        self.table, self.oracle = ForwardTable(), Relay()
        self.table.set_totals(rate=rate, burst=burst, day_quota=day_quota)
        self.oracle.totals = Bucket(rate, burst)
        self.oracle.day_quota = day_quota
        return self.open_channel(place(0), place(1))

    def open_channel(self, opener: Place, wanted: Place, *limits: int) -> tuple[int, int]:
        rate, burst, quota, trusted = limits or (0, 0, 0, 0)
        ids = self.table.open(
            opener, wanted, rate=rate, burst=burst, quota=quota, trusted=bool(trusted), now_ns=self.now
        )
        assert ids[0] != ids[1] and not set(ids) & set(self.oracle.legs)
        assert all(0 < id < BIT_31 for id in ids)
        channel = Channel(ids, [opener, wanted], Bucket(rate, burst), quota, bool(trusted), [self.now] * 2)
        channel.bucket.filled_at = self.now
        self.oracle.legs |= {ids[0]: (channel, 0), ids[1]: (channel, 1)}
        return ids

    @rule(target=ids, opener=places, wanted=places, limits=st.tuples(rates, bursts, quotas, st.booleans()))
    def open(self, opener: Place, wanted: Place, limits: tuple[int, int, int, bool]) -> tuple[int, int]:
        return self.open_channel(opener, wanted, *limits)

    @rule(ids=ids, side=st.integers(0, 1), to=places)
    def move(self, ids: tuple[int, int], side: int, to: Place) -> None:
        if ids[side] in self.oracle.legs:
            self.table.move(ids[side], to)
            self.oracle.legs[ids[side]][0].places[side] = to
        else:
            with pytest.raises(SystemFailure):
                self.table.move(ids[side], to)

    @rule(ids=consumes(ids), side=st.integers(0, 1))
    def close(self, ids: tuple[int, int], side: int) -> None:
        if ids[side] in self.oracle.legs:
            self.table.close(ids[side])
            del self.oracle.legs[ids[0]], self.oracle.legs[ids[1]]
        else:
            with pytest.raises(SystemFailure):
                self.table.close(ids[side])

    @rule(passed=st.sampled_from([1, 999_999, 7_000_000, SECOND, 60 * SECOND, DAY - 1, DAY]))
    def wait(self, passed: int) -> None:
        self.now += passed

    @rule(silence_s=st.sampled_from([1, 120, 86_400]))
    def expire(self, silence_s: int) -> None:
        silent = {
            channel.ids: channel.status()
            for channel in self.oracle.channels()
            if self.now - max(channel.last_at) >= silence_s * SECOND
        }
        expired = self.table.expire(now_ns=self.now, silence_ns=silence_s * SECOND)
        assert {status.ids: tuple(status) for status in expired} == silent
        for ids in silent:
            del self.oracle.legs[ids[0]], self.oracle.legs[ids[1]]

    def forward(self, source: Place, data: bytes, segment_len: int) -> None:
        answer = self.table.forward(*source, data, segment_len=segment_len, now_ns=self.now)
        assert answer == self.oracle.forward(
            source, cut(data, segment_len or len(data) or 1) or [b""], self.now
        )

    @rule(ids=ids, side=st.integers(0, 1), segment_len=segment_lens, count=st.integers(1, 40), data=st.data())
    def talk(
        self, ids: tuple[int, int], side: int, segment_len: int, count: int, data: st.DataObject
    ) -> None:
        """As a client does, from where the channel expects it."""
        channel, _ = self.oracle.legs.get(ids[side], (None, 0))
        source = channel.places[side] if channel else place(0)
        last_len = data.draw(st.integers(12, segment_len))
        run = [datagram(ids[side], segment_len, seed) for seed in range(count - 1)]
        self.forward(source, b"".join([*run, datagram(ids[side], last_len)]), segment_len)

    @rule(
        ids=ids,
        source=places,
        bit_31=st.booleans(),
        n=st.integers(0, 40),
        segment_len=st.integers(0, 40),
        spoil=st.dictionaries(st.integers(0, 39), st.sampled_from(list(b"\x00\x01\x02\x05\xff")), max_size=3),
        nest=st.booleans(),
    )
    def disturb(
        self,
        ids: tuple[int, int],
        source: Place,
        bit_31: bool,
        n: int,
        segment_len: int,
        spoil: dict[int, int],
        nest: bool,
    ) -> None:
        """Anything at all, near enough to a run to be mistaken for one."""
        head = header(ids[0] | BIT_31 * bit_31)
        data = bytearray((head + (head if nest else bytes(12))) * 3)[:n]
        for at, byte in spoil.items():
            if at < n:
                data[at] = byte
        self.forward(source, bytes(data), segment_len)

    @invariant()
    def holds_the_same(self) -> None:
        held = {status.ids: tuple(status) for status in self.table.channels()}
        assert held == {channel.ids: channel.status() for channel in self.oracle.channels()}
        assert len(self.table) == len(held)
        assert tuple(self.table.counters()) == (self.oracle.packets, self.oracle.bytes, self.oracle.drops)


TestComparison = Comparison.TestCase
TestComparison.settings = settings(derandomize=True, deadline=None, max_examples=150, stateful_step_count=40)


# --- header and payload -----------------------------------------------------------------------------------


def opened(**limits: Any) -> tuple[ForwardTable, int, int]:
    """A table with one channel from place(1) to place(2), whose target has sent."""
    table = ForwardTable()
    opener_id, target_id = table.open(place(1), place(2), now_ns=0, **limits)
    assert isinstance(table.forward(*place(2), datagram(target_id, 12), now_ns=0), Forwarded)
    return table, opener_id, target_id


@settings(derandomize=True, deadline=None)
@given(channel=st.integers(0, 2**32 - 1), payload=st.binary(max_size=20))
def test_the_header_is_the_one_of_the_protocol(channel: int, payload: bytes) -> None:
    assert encode_channel(channel, payload) == header(channel) + payload
    assert decode_channel_untrusted(header(channel) + payload) == (channel, payload)


@settings(derandomize=True, deadline=None)
@given(data=st.binary(max_size=12))
def test_what_does_not_begin_with_the_header_is_no_channel(data: bytes) -> None:
    is_channel = len(data) >= HEADER_LEN and data.startswith(header(0)[:4])
    assert (decode_channel_untrusted(data) is not None) == is_channel
    assert decode_channel_untrusted(header(7)[: len(data) % HEADER_LEN]) is None


@pytest.mark.parametrize("n", range(17))
def test_a_datagram_too_short_to_carry_another_is_dropped(n: int) -> None:
    table, opener_id, target_id = opened()
    answer = table.forward(*place(1), datagram(opener_id, 16)[:n], now_ns=0)
    if n < 12:
        assert answer == "length"
    else:
        assert answer == Forwarded(*place(2), header(target_id | BIT_31) + datagram(opener_id, 16)[8:n])


def test_more_than_a_udp_datagram_holds_is_dropped() -> None:
    table, opener_id, _ = opened()
    assert isinstance(table.forward(*place(1), datagram(opener_id, 65_535), now_ns=0), Forwarded)
    assert table.forward(*place(1), datagram(opener_id, 65_536), now_ns=0) == "length"


def test_an_answer_of_the_relay_is_not_forwarded_again() -> None:
    table, opener_id, _ = opened()
    assert table.forward(*place(1), datagram(opener_id | BIT_31, 40), now_ns=0) == "unknown"


def test_other_first_bytes_are_not_forwarded() -> None:
    table, opener_id, _ = opened()
    for at, wrong in itertools.product(range(4), (0x01, 0x04, 0x06)):
        spoilt = bytearray(datagram(opener_id, 40))
        spoilt[at] = wrong
        assert table.forward(*place(1), bytes(spoilt), now_ns=0) == "unknown"


def test_the_leg_of_one_client_is_of_no_use_to_another() -> None:
    table, opener_id, target_id = opened()
    socket, remote = place(1)
    assert table.forward(*place(2), datagram(opener_id, 40), now_ns=0) == "address"
    assert table.forward(*place(1), datagram(target_id, 40), now_ns=0) == "address"
    assert table.forward(socket + 1, remote, datagram(opener_id, 40), now_ns=0) == "address"
    for at in range(18):
        near = bytearray(remote)
        near[at] ^= 1
        assert table.forward(socket, bytes(near), datagram(opener_id, 40), now_ns=0) == "address"


@pytest.mark.parametrize("bad", ["short", "nested", "other channel"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_bad_segment_leaves_the_run_to_be_tried_by_pieces(bad: str, at: int) -> None:
    table, opener_id, _ = opened()
    run = [datagram(opener_id, 40, seed) for seed in range(3)]
    if bad == "short":
        run, at = [*run, header(opener_id)], 3
    else:
        run[at] = (
            header(opener_id) + header(1) + bytes(24) if bad == "nested" else datagram(opener_id ^ 1, 40)
        )
    before = table.counters(), table.channels()
    assert table.forward(*place(1), b"".join(run), segment_len=40, now_ns=0) == MIXED
    assert (table.counters(), table.channels()) == before
    answers = [table.forward(*place(1), segment, now_ns=0) for segment in run]
    assert [isinstance(answer, Forwarded) for answer in answers] == [i != at for i in range(len(run))]


# --- following a client -----------------------------------------------------------------------------------


def test_a_channel_follows_its_client() -> None:
    table, opener_id, target_id = opened()
    table.move(opener_id, place(5, socket=3))
    assert table.forward(*place(1), datagram(opener_id, 40), now_ns=0) == "address"
    answer = table.forward(*place(2), datagram(target_id, 40), now_ns=0)
    assert answer == Forwarded(*place(5, socket=3), header(opener_id | BIT_31) + datagram(target_id, 40)[8:])
    assert isinstance(table.forward(*place(5, socket=3), datagram(opener_id, 40), now_ns=0), Forwarded)


# --- limits -----------------------------------------------------------------------------------------------


def sent_bytes(answer: Forwarded | str) -> int:
    return len(answer.data) if isinstance(answer, Forwarded) else 0


def test_a_silent_target_gets_4_kb_at_most() -> None:
    table = ForwardTable()
    opener_id, target_id = table.open(place(1), place(2), now_ns=0)
    sent = [sent_bytes(table.forward(*place(1), datagram(opener_id, 1000), now_ns=0)) for _ in range(10)]
    assert sent == [1000] * 4 + [0] * 6
    assert sent_bytes(table.forward(*place(1), datagram(opener_id, 97), now_ns=10 * DAY)) == 0
    assert sent_bytes(table.forward(*place(1), datagram(opener_id, 96), now_ns=10 * DAY)) == 96
    # Neither a stranger nor the opener can speak for the target.
    assert table.forward(*place(3), datagram(target_id, 40), now_ns=0) == "address"
    assert table.forward(*place(1), datagram(opener_id, 40), now_ns=0) == "unproved"
    assert sent_bytes(table.forward(*place(2), datagram(target_id, 5000), now_ns=0)) == 5000
    assert sent_bytes(table.forward(*place(1), datagram(opener_id, 60_000), now_ns=0)) == 60_000


@settings(derandomize=True, deadline=None)
@given(
    rate=st.integers(1, 10**10),
    burst=st.integers(1500, 10**6),
    steps=st.lists(st.tuples(st.integers(0, 10**8), st.integers(12, 1500)), min_size=1, max_size=60),
    in_total=st.booleans(),
)
def test_a_rate_is_a_token_bucket(
    rate: int, burst: int, steps: list[tuple[int, int]], in_total: bool
) -> None:
    """Whatever the rate: never more than burst + rate x time from any moment on, never less than a bucket
    gives that loses a nanosecond (at least a byte) a datagram to rounding."""
    table, opener_id, _ = opened()
    if in_total:
        table.set_totals(rate=rate, burst=burst)
    else:
        table = ForwardTable()
        opener_id, target_id = table.open(place(1), place(2), rate=rate, burst=burst, now_ns=0)
        table.forward(*place(2), datagram(target_id, 12), now_ns=0)
    now = DAY
    history: list[tuple[int, int]] = []
    rounding = Fraction(rate, SECOND) + 1
    tokens = Fraction(burst)
    for passed, n in steps:
        now += passed
        tokens = min(Fraction(burst), tokens + Fraction(passed * rate, SECOND))
        sent = sent_bytes(table.forward(*place(1), datagram(opener_id, n), now_ns=now))
        assert sent == n or n > tokens
        if sent:
            tokens = max(tokens - n - rounding, Fraction(0))
        history.append((now, sent))
    for i, (start, _) in enumerate(history):
        total = 0
        for at, sent in history[i:]:
            total += sent
            assert total <= burst + Fraction((at - start) * rate, SECOND) + rounding


def test_a_run_is_cut_where_its_limit_is_reached() -> None:
    table, opener_id, target_id = opened(quota=12 + 250)
    run = b"".join(datagram(opener_id, 100, seed) for seed in range(4))
    answer = table.forward(*place(1), run, segment_len=100, now_ns=0)
    assert isinstance(answer, Forwarded)
    assert [segment[8:] for segment in cut(answer.data, 100)] == [segment[8:] for segment in cut(run, 100)][
        :2
    ]
    assert table.counters().drops["quota"] == table.channels()[0].drops["quota"] == 2
    assert table.forward(*place(2), datagram(target_id, 51), now_ns=0) == "quota"
    assert sent_bytes(table.forward(*place(2), datagram(target_id, 50), now_ns=0)) == 50


def test_a_day_of_the_relay_ends() -> None:
    table, opener_id, _ = opened()
    table.set_totals(day_quota=1012)
    assert sent_bytes(table.forward(*place(1), datagram(opener_id, 1000), now_ns=1)) == 1000
    assert table.forward(*place(1), datagram(opener_id, 12), now_ns=DAY - 1) == "quota"
    assert sent_bytes(table.forward(*place(1), datagram(opener_id, 1012), now_ns=DAY)) == 1012
    assert table.forward(*place(1), datagram(opener_id, 12), now_ns=2 * DAY - 1) == "quota"


def test_totals_are_shared_by_strangers_and_spare_the_trusted() -> None:
    table = ForwardTable()
    table.set_totals(rate=1000, burst=1000, day_quota=100_000)
    ids = [table.open(place(i), place(i + 10), trusted=i == 0, now_ns=0) for i in range(3)]

    def send(i: int, n: int) -> Forwarded | str:
        return table.forward(*place(i + 10), datagram(ids[i][1], n), now_ns=0)

    assert sent_bytes(send(0, 60_000)) == 60_000
    assert sent_bytes(send(1, 600)) == 600
    assert send(2, 600) == "rate"
    assert sent_bytes(send(2, 400)) == 400
    assert sent_bytes(send(0, 60_000)) == 60_000


def test_a_channel_may_get_other_limits() -> None:
    table = ForwardTable()
    table.set_totals(rate=1, burst=100)
    opener, target = table.open(place(0), place(1), trusted=True, now_ns=0)
    for leg, client in ((target, 1), (opener, 0)):
        assert isinstance(table.forward(*place(client), datagram(leg, 1000), now_ns=0), Forwarded)
    table.limit(target, rate=1_000, burst=500)
    assert table.forward(*place(0), datagram(opener, 501), now_ns=0) == "rate"
    assert table.forward(*place(0), datagram(opener, 101), now_ns=0) == "rate"  # of all strangers
    table.limit(opener, trusted=True)
    assert isinstance(table.forward(*place(0), datagram(opener, 1000), now_ns=0), Forwarded)
    with pytest.raises(SystemFailure):
        table.limit(opener ^ target, rate=1)


def test_limits_may_change_while_traffic_flows() -> None:
    table, opener_id, _ = opened()
    table.set_totals(rate=1000, burst=100)
    assert table.forward(*place(1), datagram(opener_id, 101), now_ns=SECOND) == "rate"
    table.set_totals(rate=1000, burst=1000)
    assert sent_bytes(table.forward(*place(1), datagram(opener_id, 1000), now_ns=SECOND)) == 1000
    table.set_totals()
    assert sent_bytes(table.forward(*place(1), datagram(opener_id, 1000), now_ns=SECOND)) == 1000


def test_only_what_is_forwarded_keeps_a_channel_alive() -> None:
    table, opener_id, target_id = opened(quota=112)
    assert sent_bytes(table.forward(*place(1), datagram(opener_id, 100), now_ns=5)) == 100
    for answer in (
        table.forward(*place(1), datagram(opener_id, 100), now_ns=60),
        table.forward(*place(3), datagram(opener_id, 100), now_ns=60),
    ):
        assert answer in DROP_REASONS
    assert table.expire(now_ns=124, silence_ns=120) == []
    assert [status.ids for status in table.expire(now_ns=125, silence_ns=120)] == [(opener_id, target_id)]
    assert table.forward(*place(1), datagram(opener_id, 40), now_ns=125) == "unknown"
    assert len(table) == 0


def test_the_table_is_bounded_and_its_ids_are_unique() -> None:
    table = ForwardTable()
    opened_ids = [table.open(place(1), place(2), now_ns=0) for _ in range(CHANNELS_MAX)]
    assert len({id for ids in opened_ids for id in ids}) == 2 * CHANNELS_MAX
    with pytest.raises(SystemFailure):
        table.open(place(1), place(2), now_ns=0)
    table.close(opened_ids[100][1])
    table.open(place(1), place(2), now_ns=0)
    assert len(table) == len(table.channels()) == CHANNELS_MAX
    assert len(table.expire(now_ns=1, silence_ns=1)) == CHANNELS_MAX
    assert table.channels() == []


# --- readers beside the writer ----------------------------------------------------------------------------


@dataclass
class Visit:
    """A channel for a while. Its target moves from socket 0 to socket 1 in that time."""

    number: int
    ids: tuple[int, int]
    closing: bool = False
    closed: bool = False

    @property
    def opener(self) -> Place:
        return place(2 * self.number)

    def target(self, socket: int) -> Place:
        return place(2 * self.number + 1, socket)


class Traffic(threading.Thread):
    """Sends long runs over whatever is open; `wrong` collects answers that no order of events explains."""

    def __init__(self, table: ForwardTable, visits: list[Visit], seed: int) -> None:
        super().__init__()
        self.table, self.visits, self.source = table, visits, random.Random(seed)
        self.stopping = threading.Event()
        self.wrong: list[tuple[Visit, Forwarded | str]] = []
        self.forwarded = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            visit = self.source.choice(self.visits)
            run = datagram(visit.ids[0], 12) * 5000
            was_closed = visit.closed
            answer = self.table.forward(*visit.opener, run, segment_len=12, now_ns=1)
            if answer == "unknown":
                right = visit.closing
            else:
                header_now = header(visit.ids[1] | BIT_31)
                sent = run.replace(run[:HEADER_LEN], header_now)
                right = not was_closed and answer in [Forwarded(*visit.target(i), sent) for i in range(2)]
                self.forwarded += 1
            if not right:
                self.wrong.append((visit, answer))


def test_channels_come_move_and_go_under_traffic() -> None:
    table, visits = ForwardTable(), []

    def open_channel(number: int) -> Visit:
        visit = Visit(number, (0, 0))
        visit.ids = table.open(visit.opener, visit.target(0), now_ns=0)
        table.forward(*visit.target(0), datagram(visit.ids[1], 12), now_ns=0)
        return visit

    visits += [open_channel(number) for number in range(4)]
    threads = [Traffic(table, visits, seed) for seed in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for number in itertools.count(4):
            old, visits[number % 4] = visits[number % 4], open_channel(number)
            table.move(old.ids[1], old.target(1))
            old.closing = True
            table.close(old.ids[number % 2])
            old.closed = True
            if min(thread.forwarded for thread in threads) >= 200 or any(thread.wrong for thread in threads):
                break
    finally:
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.stopping.set()
        for thread in threads:
            thread.join()
    assert [thread.wrong for thread in threads] == [[], []]
    assert len(table) == 4
    proving = number + 1
    assert table.counters().packets == 5000 * sum(thread.forwarded for thread in threads) + proving
