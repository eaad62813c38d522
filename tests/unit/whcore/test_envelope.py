"""Control sessions once they are there: data, rekeying, replay, idleness."""

import pytest
from envelope_nodes import MODES, NS, Node, advance, connect, handshake, pair
from hypothesis import given, settings
from hypothesis import strategies as st

from whcore.envelope import DATA, DROPPED, RESPONSE
from whcore.errors import SystemFailure

deterministic = settings(derandomize=True, deadline=None, max_examples=60)
both_modes = pytest.mark.parametrize("network_secret", MODES, ids=["open", "secret"])


class TestSession:
    @both_modes
    @deterministic
    @given(payloads=st.lists(st.tuples(st.booleans(), st.binary(max_size=1166)), max_size=10))
    def test_data_flows_both_ways(
        self, network_secret: bytes | None, payloads: list[tuple[bool, bytes]]
    ) -> None:
        a, b = pair(network_secret)
        connect(a, b)
        for from_a, payload in payloads:
            sender, receiver = (a, b) if from_a else (b, a)
            datagram = sender.seal(receiver, payload)
            assert len(datagram) == 32 + max(32, (len(payload) + 2 + 15) // 16 * 16)
            assert receiver.open(datagram) == (DATA, sender.key, payload, False)

    @deterministic
    @given(arrivals=st.lists(st.integers(0, 19), max_size=60))
    def test_lost_repeated_and_reordered_datagrams(self, arrivals: list[int]) -> None:
        a, b = pair()
        connect(a, b)
        datagrams = [a.seal(b, b"%d" % i) for i in range(20)]
        seen: set[int] = set()
        for i in arrivals:
            expected = (DROPPED, "replay") if i in seen else (DATA, a.key, b"%d" % i, False)
            assert b.open(datagrams[i]) == expected
            seen.add(i)

    def test_a_datagram_far_behind_the_window_is_a_replay(self) -> None:
        a, b = pair()
        connect(a, b)
        early = a.seal(b)
        for _ in range(9000):
            late = a.seal(b)
        assert b.open(late)[0] == DATA
        assert b.open(early) == (DROPPED, "replay")

    def test_padding_hides_the_length(self) -> None:
        a, b = pair()
        connect(a, b)
        assert len(a.seal(b, b"x" * 10, pad_to=400)) == len(a.seal(b, b"", pad_to=400)) == 432

    def test_the_responder_waits_for_data_before_it_seals(self) -> None:
        a, b = pair()
        handshake(a, b)
        assert a.sessions.has_session(b.key)
        assert not b.sessions.has_session(a.key)
        assert b.sessions.seal(a.key, b"", now_ns=b.now) is None
        assert b.open(a.seal(b))[3] is True
        assert b.open(a.seal(b))[3] is False
        assert a.open(b.seal(a))[0] == DATA

    def test_an_initiation_never_replaces_a_confirmed_session(self) -> None:
        a, b = pair()
        connect(a, b)
        restarted = Node(1, now=a.now + 1)
        response = b.answer(restarted.initiate(b))
        assert a.open(b.seal(a))[0] == DATA  # still under the old keys
        assert restarted.open(response)[0] == RESPONSE
        assert b.open(restarted.seal(b))[3] is True
        assert restarted.open(b.seal(restarted))[0] == DATA
        assert a.open(b.seal(a)) == (DROPPED, "index")

    def test_old_keys_open_for_60_seconds_after_a_rekey(self) -> None:
        a, b = pair()
        connect(a, b)
        from_a, from_b = [a.seal(b) for _ in range(3)], [b.seal(a) for _ in range(3)]
        connect(a, b)
        advance(60 * NS - 1, a, b)
        assert b.open(from_a[0]) == (DATA, a.key, b"data", False)
        assert a.open(from_b[0]) == (DATA, b.key, b"data", False)
        assert a.open(b.seal(a))[0] == DATA  # an old packet did not bring the old keys back
        advance(1, a, b)
        assert b.open(from_a[1]) == (DROPPED, "index")
        assert a.open(from_b[1]) == (DROPPED, "index")
        for node, old in ((b, from_a[2]), (a, from_b[2])):
            node.sessions.expire(node.now)
            assert node.open(old) == (DROPPED, "index")
        assert b.open(a.seal(b))[0] == DATA

    def test_keys_that_the_peer_just_made_survive_a_handshake_of_ours(self) -> None:
        a, b = pair()
        handshake(a, b)
        under_way, too_late = a.seal(b), a.seal(b)
        connect(b, a)
        assert b.open(under_way) == (DATA, a.key, b"data", False)
        advance(60 * NS, b)
        assert b.open(too_late) == (DROPPED, "index")

    def test_only_the_initiator_rekeys_after_30_minutes(self) -> None:
        a, b = pair()
        connect(a, b)
        now = a.now + 1800 * NS
        assert not a.sessions.needs_rekey(b.key, now - 1)
        assert a.sessions.needs_rekey(b.key, now)
        assert not b.sessions.needs_rekey(a.key, now)
        assert not a.sessions.needs_rekey(Node(3).key, now)

    def test_keys_never_rekeyed_end(self) -> None:
        a, b = pair()
        connect(a, b)
        late = a.seal(b)
        for _ in range(7):
            advance(300 * NS, a, b)
            a.seal(b)
            a.sessions.expire(a.now)
        advance(300 * NS - 1, a, b)
        a.seal(b)
        advance(1, a, b)
        assert a.sessions.seal(b.key, b"", now_ns=a.now) is None
        assert b.open(late) == (DROPPED, "index")

    def test_ten_idle_minutes_end_a_session(self) -> None:
        a, b = pair()
        connect(a, b)
        advance(600 * NS - 1, a, b)
        a.sessions.expire(a.now)
        assert a.sessions.has_session(b.key)
        b.open(a.seal(b))
        advance(1, a, b)
        a.sessions.expire(a.now)
        assert a.sessions.has_session(b.key)
        advance(600 * NS, a)
        a.sessions.expire(a.now)
        assert not a.sessions.has_session(b.key)
        assert a.sessions.counters()["sessions"] == 0

    def test_drop_forgets_all_of_a_peer(self) -> None:
        a, b = pair()
        connect(a, b)
        data = a.seal(b)
        pending = b.open(a.initiate(b))[2]
        b.initiate(a)
        b.sessions.drop(a.key)
        assert not b.sessions.has_session(a.key)
        assert not b.sessions.in_flight(a.key)
        assert b.sessions.respond(pending, b"", now_ns=b.now) is None
        assert b.open(data) == (DROPPED, "index")
        b.sessions.drop(a.key)

    def test_closed_sessions_open_and_make_nothing(self) -> None:
        a, b = pair()
        connect(a, b)
        data, initiation = a.seal(b), a.initiate(b)
        b.sessions.close()
        b.sessions.close()
        assert b.open(data) == b.open(initiation) == (DROPPED, "state")
        assert b.sessions.seal(a.key, b"", now_ns=b.now) is None
        with pytest.raises(SystemFailure):
            b.initiate(a)
