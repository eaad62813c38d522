"""What comes from others: junk, copies, old timestamps, and more than there is room for."""

from collections.abc import Iterator

import pytest
from envelope_nodes import (
    MODES,
    NAMESPACE,
    NS,
    Node,
    advance,
    connect,
    handshake,
    mac1,
    oracle,
    pair,
    secret_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from whcore.envelope import COOKIE_REPLY, DROPPED, REQUEST
from whcore.keys import workbit

deterministic = settings(derandomize=True, deadline=None, max_examples=60)
both_modes = pytest.mark.parametrize("network_secret", MODES, ids=["open", "secret"])


class TestHostileInput:
    @staticmethod
    def good(kind: int, network_secret: bytes | None) -> tuple[Node, bytes]:
        """A datagram of that type and a node that it is good for."""
        a, b = pair(network_secret)
        initiation = a.initiate(b)
        if kind == 1:
            return b, initiation
        if kind == 3:
            return a, b.open(initiation, under_load=True)[1]
        response = b.answer(initiation)
        if kind == 2:
            return a, response
        a.open(response)
        return b, a.seal(b)

    @both_modes
    @pytest.mark.parametrize("kind", [1, 2, 3, 4])
    def test_truncated_and_extended_datagrams_are_dropped_and_harm_nothing(
        self, kind: int, network_secret: bytes | None
    ) -> None:
        node, datagram = self.good(kind, network_secret)
        for n in range(len(datagram)):
            assert node.open(datagram[:n])[0] == DROPPED
        assert node.open(datagram + b"\0")[0] == DROPPED
        longest = 1468 if kind == 4 else 1200
        assert node.open(datagram.ljust(longest + 1, b"\0")) == (DROPPED, "length")
        assert node.open(datagram)[0] != DROPPED

    @both_modes
    @pytest.mark.parametrize("kind", [1, 2, 3, 4])
    @deterministic
    @given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def test_a_flipped_bit_is_dropped_and_harms_nothing(
        self, kind: int, network_secret: bytes | None, position: float, bit: int
    ) -> None:
        node, datagram = self.good(kind, network_secret)
        covered = len(datagram) - (16 if kind in (1, 2) else 0)  # mac2 counts under load only
        flipped = bytearray(datagram)
        flipped[int(position * covered)] ^= 1 << bit
        assert node.open(bytes(flipped))[0] == DROPPED
        assert node.open(datagram)[0] != DROPPED

    @deterministic
    @given(
        datagram=st.one_of(
            st.binary(max_size=1300),
            st.builds(
                lambda kind, body: b"\xff\x02" + bytes([kind]) + b"\0" + body,
                st.integers(0, 7),
                st.binary(max_size=1300),
            ),
        )
    )
    def test_noise_from_the_network_never_raises(self, datagram: bytes) -> None:
        _, b = pair()
        kind, reason = b.open(datagram)
        assert kind == DROPPED
        assert b.sessions.counters()[f"dropped_{reason}"] == 1

    @pytest.mark.parametrize(
        "header", [b"\xff\x02\x05\x00", b"\xff\x02\x00\x00", b"\xff\x01\x01\x00", b"\xff\x02\x01\x01"]
    )
    def test_other_types_are_not_for_us(self, header: bytes) -> None:
        _, b = pair()
        assert b.open(header + bytes(200)) == (DROPPED, "type")

    def test_low_order_ephemeral_keys_are_refused(self) -> None:
        a, b = pair()
        for bad in (bytes(32), b"\x01" + bytes(31), b"\xff" * 32):
            initiation = bytearray(a.initiate(b))
            initiation[8:40] = bad
            initiation[-32:-16] = mac1(bytes(initiation), b.key, None)
            assert b.open(bytes(initiation)) == (DROPPED, "key")

    def test_our_own_key_is_refused(self) -> None:
        b, twin = Node(2), Node(2)
        connection = oracle(2, None, b.key)
        initiation = b"\xff\x02\x01\x00" + bytes(4) + bytes(connection.write_message(bytes(12 + 32)))
        initiation += mac1(initiation + bytes(32), b.key, None) + bytes(16)
        assert twin.open(initiation) == (DROPPED, "key")

    def test_a_length_beyond_the_plaintext_is_refused(self) -> None:
        _, b = pair()
        connection = oracle(1, None, b.key)
        initiation = b"\xff\x02\x01\x00" + bytes(4)
        initiation += bytes(connection.write_message(bytes(12) + b"\x1f\x00" + bytes(30)))
        initiation += mac1(initiation + bytes(32), b.key, None) + bytes(16)
        assert b.open(initiation) == (DROPPED, "length")

    def test_initiations_of_one_network_are_limited_to_20_a_second(self) -> None:
        a, b = pair()
        results = [b.open(a.initiate(b), network=7) for _ in range(60)]
        assert [result[0] for result in results] == [REQUEST] * 40 + [COOKIE_REPLY] * 20
        assert b.open(a.initiate(b), network=8)[0] == REQUEST
        advance(NS, b)
        results = [b.open(a.initiate(b), network=7)[0] for _ in range(30)]
        assert results == [REQUEST] * 20 + [COOKIE_REPLY] * 10


class TestTimestamps:
    def test_a_replayed_initiation_is_refused(self) -> None:
        a, b = pair()
        initiation = a.initiate(b)
        b.answer(initiation)
        advance(3600 * NS, b)
        assert b.open(initiation) == (DROPPED, "replay")

    def test_an_older_initiation_is_refused(self) -> None:
        a, b = pair()
        older, newer = a.initiate(b), a.initiate(b)
        b.answer(newer)
        assert b.open(older) == (DROPPED, "replay")

    @deterministic
    @given(clock=st.lists(st.integers(0, 2**60), min_size=2, max_size=20))
    def test_ours_grow_whatever_the_clock_does(self, clock: list[int]) -> None:
        a, b = pair()
        last = 0
        for wall_ns in clock:
            advance(NS, a, b)
            initiation = a.sessions.initiate(b.key, b"", pad_to=0, now_ns=a.now, wall_ns=wall_ns)
            assert b.open(initiation)[0] == REQUEST
            assert a.sessions.last_timestamp_ns == max(wall_ns, last + 1)
            last = a.sessions.last_timestamp_ns

    def test_ours_grow_over_a_restart_with_the_clock_set_back(self) -> None:
        a, b = pair()
        b.answer(a.initiate(b))
        restarted = Node(1, last_timestamp_ns=a.sessions.last_timestamp_ns, now=0)
        assert b.open(restarted.initiate(b))[0] == REQUEST

    def test_those_of_exempt_keys_are_never_forgotten(self) -> None:
        b = Node(2, max_sessions=4)
        exempt, stranger = Node(1), Node(3)
        b.sessions.set_exempt_keys([exempt.key])
        initiations = [node.initiate(b) for node in (exempt, stranger)]
        for initiation in initiations:
            b.answer(initiation)
        for seed in range(100, 120):
            advance(NS, b)
            b.answer(Node(seed).initiate(b))
        assert b.open(initiations[0]) == (DROPPED, "replay")
        assert (
            b.open(initiations[1])[0] == REQUEST
        )  # bounded: its replay only costs an answer that nobody can use


class TestLimits:
    @staticmethod
    def seeds_with_workbit(least: int, wanted: bool) -> Iterator[int]:
        for seed in range(1000, 2000):
            if (workbit(secret_key(seed).public_key, NAMESPACE) >= least) is wanted:
                yield seed

    def test_strangers_need_workbits_and_exempt_keys_do_not(self) -> None:
        b = Node(2, workbit=4)
        rich = Node(next(self.seeds_with_workbit(4, True)))
        poor = Node(next(self.seeds_with_workbit(4, False)))
        assert b.open(rich.initiate(b))[0] == REQUEST
        assert b.open(poor.initiate(b)) == (DROPPED, "workbit")
        b.sessions.set_exempt_keys([poor.key])
        assert b.open(poor.initiate(b))[0] == REQUEST
        b.sessions.set_exempt_keys([])
        assert b.open(poor.initiate(b)) == (DROPPED, "workbit")

    def test_the_least_recently_used_stranger_is_evicted(self) -> None:
        b = Node(2, max_sessions=4)
        peers = [Node(seed) for seed in range(10, 14)]
        for peer in peers:
            connect(peer, b)
        b.open(peers[0].seal(b))
        connect(Node(20), b)
        assert [b.sessions.has_session(peer.key) for peer in peers] == [True, False, True, True]
        assert b.sessions.counters()["sessions"] == 4

    def test_exempt_keys_are_evicted_last(self) -> None:
        b = Node(2, max_sessions=4)
        exempt = [Node(seed) for seed in range(10, 13)]
        for peer in exempt:
            connect(peer, b)
        b.sessions.set_exempt_keys([peer.key for peer in exempt])
        for seed in range(20, 30):
            connect(Node(seed), b)
        assert all(b.sessions.has_session(peer.key) for peer in exempt)
        assert b.sessions.counters()["sessions"] == 4

    def test_unconfirmed_handshakes_do_not_push_out_confirmed_sessions(self) -> None:
        b = Node(2, max_sessions=4)
        confirmed = [Node(seed) for seed in range(10, 13)]
        for peer in confirmed:
            connect(peer, b)
        for seed in range(20, 50):
            advance(NS, b)
            handshake(Node(seed), b)
        assert all(b.sessions.has_session(peer.key) for peer in confirmed)
        assert b.sessions.counters()["sessions"] == 4

    def test_every_table_is_bounded(self) -> None:
        a, b = Node(1), Node(2, max_sessions=4)
        for _ in range(300):
            advance(NS, b)
            assert b.open(a.initiate(b))[0] == REQUEST
        assert b.sessions.counters()["pending"] <= 256
        for seed in range(1100):
            b.sessions.initiate(secret_key(seed + 5000).public_key, b"", pad_to=0, now_ns=b.now, wall_ns=0)
        assert b.sessions.counters()["in_flight"] <= 1024
        advance(60 * NS, b)
        b.sessions.expire(b.now)
        counters = b.sessions.counters()
        assert (counters["pending"], counters["in_flight"]) == (0, 0)
