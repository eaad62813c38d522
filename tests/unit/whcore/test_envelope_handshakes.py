"""Handshakes of control sessions: as Noise has them, both at once, and under load."""

import pytest
from envelope_nodes import (
    MODES,
    NETWORK_SECRET,
    NS,
    UNIX_NS,
    Node,
    advance,
    by_key,
    connect,
    mac1,
    oracle,
    pair,
    secret_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from whcore.envelope import COOKIE_REPLY, COOKIE_TAKEN, DATA, DROPPED, REQUEST, RESPONSE, ControlSessions
from whcore.errors import InvalidKey

deterministic = settings(derandomize=True, deadline=None, max_examples=60)
both_modes = pytest.mark.parametrize("network_secret", MODES, ids=["open", "secret"])


class TestHandshake:
    @both_modes
    @deterministic
    @given(
        request_payload=st.binary(max_size=1050),
        room=st.integers(0, 1052),
        reply_payload=st.binary(max_size=1200),
    )
    def test_one_round_trip_carries_request_and_reply(
        self, network_secret: bytes | None, request_payload: bytes, room: int, reply_payload: bytes
    ) -> None:
        a, b = pair(network_secret)
        initiation = a.initiate(b, request_payload, pad_to=room)
        assert len(initiation) <= 1200
        if room >= len(request_payload) + 2:
            assert len(initiation) == 148 + room
        kind, peer, pending, payload = b.open(initiation)
        assert (kind, peer, payload) == (REQUEST, a.key, request_payload)
        response = b.sessions.respond(pending, reply_payload, now_ns=b.now)
        capacity = len(initiation) - 92 - 2
        if len(reply_payload) > capacity:
            assert response is None
            assert b.sessions.response_capacity(pending) == capacity
            response = b.sessions.respond(pending, reply_payload[:capacity], now_ns=b.now)
        assert response is not None
        assert len(response) <= len(initiation)
        assert a.open(response) == (RESPONSE, b.key, reply_payload[:capacity])
        assert b.sessions.response_capacity(pending) == 0
        assert b.sessions.respond(pending, b"", now_ns=b.now) is None

    @pytest.mark.parametrize("network_secret", MODES, ids=["open", "secret"])
    def test_our_initiation_is_noise_and_mac1_as_documented(self, network_secret: bytes | None) -> None:
        a, b = pair(network_secret)
        initiation = a.initiate(b, b"hello", pad_to=64)
        connection = oracle(2, network_secret)
        plaintext = bytes(connection.read_message(initiation[8:-32]))
        assert plaintext[12:] == b"\x05\x00hello".ljust(64, b"\0")
        moment = UNIX_NS + a.now
        assert int.from_bytes(plaintext[:8], "big") == 2**62 + 10 + moment // NS
        assert int.from_bytes(plaintext[8:12], "big") == moment % NS
        assert initiation[:4] == b"\xff\x02\x01\x00"
        assert initiation[-32:] == mac1(initiation, b.key, network_secret) + bytes(16)
        response = b"\xff\x02\x02\x00" + b"\x09\x08\x07\x06" + initiation[4:8]
        response += bytes(connection.write_message(b"\x02\x00hi".ljust(16, b"\0")))
        response += mac1(response + bytes(32), a.key, network_secret) + bytes(16)
        assert a.open(response) == (RESPONSE, b.key, b"hi")
        sealed = a.seal(b, b"data")
        assert sealed[:16] == b"\xff\x02\x04\x00" + b"\x09\x08\x07\x06" + bytes(8)
        assert bytes(connection.decrypt(sealed[16:])) == b"\x04\x00data".ljust(32, b"\0")

    @pytest.mark.parametrize("network_secret", MODES, ids=["open", "secret"])
    def test_our_response_is_noise_and_mac1_as_documented(self, network_secret: bytes | None) -> None:
        a, b = pair(network_secret)
        connection = oracle(1, network_secret, b.key)
        timestamp = (2**62 + 10 + 1_700_000_000).to_bytes(8, "big") + (5).to_bytes(4, "big")
        initiation = b"\xff\x02\x01\x00" + b"\x01\x02\x03\x04"
        initiation += bytes(connection.write_message(timestamp + b"\x05\x00hello".ljust(96, b"\0")))
        initiation += mac1(initiation + bytes(32), b.key, network_secret) + bytes(16)
        response = b.answer(initiation, b"hi")
        assert response[:4] == b"\xff\x02\x02\x00"
        assert response[8:12] == b"\x01\x02\x03\x04"
        assert response[-32:] == mac1(response, a.key, network_secret) + bytes(16)
        assert bytes(connection.read_message(response[12:-32])) == b"\x02\x00hi".ljust(16, b"\0")
        data = b"\xff\x02\x04\x00" + response[4:8] + bytes(8)
        data += bytes(connection.encrypt(b"\x01\x00x".ljust(32, b"\0")))
        assert b.open(data) == (DATA, a.key, b"x", True)

    def test_a_reply_is_never_longer_than_its_request(self) -> None:
        a, b = pair()
        for pad_to in range(0, 1053, 7):
            advance(NS, a, b)
            initiation = a.initiate(b, b"", pad_to=pad_to)
            pending = b.open(initiation)[2]
            capacity = b.sessions.response_capacity(pending)
            assert b.sessions.respond(pending, bytes(capacity + 1), now_ns=b.now) is None
            response = b.sessions.respond(pending, bytes(capacity), now_ns=b.now)
            assert response is not None
            assert len(response) <= len(initiation)

    def test_outsiders_of_a_secret_network_are_dropped_by_mac1(self) -> None:
        member = Node(2, NETWORK_SECRET)
        for outsider in (Node(1), Node(1, bytes(31) + b"\x01")):
            assert member.open(outsider.initiate(member)) == (DROPPED, "mac")
            assert outsider.open(member.initiate(outsider)) == (DROPPED, "mac")

    def test_another_namespace_is_another_network(self) -> None:
        a, b = pair()
        stranger = ControlSessions(secret_key(1), b"other")
        initiation = stranger.initiate(b.key, b"", pad_to=0, now_ns=a.now, wall_ns=UNIX_NS)
        assert b.open(initiation) == (DROPPED, "auth")

    def test_a_pending_request_goes_stale(self) -> None:
        a, b = pair()
        pending = b.open(a.initiate(b))[2]
        advance(3 * NS, b)
        assert b.sessions.respond(pending, b"", now_ns=b.now) is None
        b.sessions.expire(b.now)
        assert b.sessions.counters()["pending"] == 0

    def test_a_new_initiation_replaces_the_one_in_flight(self) -> None:
        a, b = pair()
        first = b.answer(a.initiate(b))
        second = b.answer(a.initiate(b))
        assert a.open(first) == (DROPPED, "index")
        assert a.open(second)[0] == RESPONSE
        assert a.open(second) == (DROPPED, "index")

    def test_an_unanswered_initiation_is_forgotten(self) -> None:
        a, b = pair()
        response = b.answer(a.initiate(b))
        advance(10 * NS, a)
        assert a.open(response) == (DROPPED, "index")
        assert a.sessions.in_flight(b.key)
        a.sessions.expire(a.now)
        assert not a.sessions.in_flight(b.key)

    def test_bad_arguments_are_errors_of_ours(self) -> None:
        a, b = pair()
        with pytest.raises(ValueError, match="1052"):
            a.initiate(b, bytes(1051))
        with pytest.raises(ValueError, match="1052"):
            a.initiate(b, b"", pad_to=1053)
        for bad_key in (a.key, bytes(32), b.key[:-1], b"\xff" * 32):
            with pytest.raises(InvalidKey):
                a.sessions.initiate(bad_key, b"", pad_to=0, now_ns=0, wall_ns=0)
        with pytest.raises(ValueError, match="32 bytes"):
            Node(1, b"short")
        connect(a, b)
        with pytest.raises(ValueError, match="1168"):
            a.seal(b, bytes(1167))
        with pytest.raises(ValueError, match="1436"):
            a.seal(b, b"", pad_to=1437)


def test_padding_makes_a_datagram_as_long_as_the_path_that_it_tries() -> None:
    a, b = pair()
    connect(a, b)
    for pad_to in (33, 1220, 1436):
        datagram = a.seal(b, b"probe", pad_to=pad_to)
        assert len(datagram) == 32 + pad_to
        assert b.open(datagram) == (DATA, a.key, b"probe", False)


class TestGlare:
    def test_the_lower_keys_handshake_wins(self) -> None:
        low, high = by_key(*pair())
        from_low, from_high = low.initiate(high), high.initiate(low)
        assert low.open(from_high) == (DROPPED, "glare")
        assert low.sessions.in_flight(high.key)
        response = high.answer(from_low)
        assert not high.sessions.in_flight(low.key)
        assert low.open(response)[0] == RESPONSE
        assert high.open(low.seal(high))[3] is True

    def test_a_peer_that_we_cannot_reach_gets_through(self) -> None:
        """Behind a NAT it hears none of our INITs: retrying must not keep its own out."""
        low, high = by_key(*pair())
        low.initiate(high)
        advance(600_000_000, low, high)
        low.initiate(high)
        assert low.open(high.initiate(low)) == (DROPPED, "glare")
        advance(400_000_000, low, high)
        assert high.open(low.answer(high.initiate(low)))[0] == RESPONSE

    def test_a_forged_initiation_does_not_abandon_ours(self) -> None:
        low, high = by_key(*pair())
        response = low.answer(high.initiate(low))
        forged = bytearray(low.initiate(high))
        forged[100] ^= 1  # in the payload, which proves the static key
        forged[-32:-16] = mac1(bytes(forged), high.key, None)
        assert high.open(bytes(forged)) == (DROPPED, "auth")
        assert high.open(response)[0] == RESPONSE


class TestCookies:
    @both_modes
    def test_under_load_a_source_must_prove_itself_first(self, network_secret: bytes | None) -> None:
        a, b = pair(network_secret)
        initiation = a.initiate(b)
        kind, cookie = b.open(initiation, under_load=True)
        assert kind == COOKIE_REPLY
        assert len(cookie) == 64 < len(initiation)
        kind, peer, again = a.open(cookie)
        assert (kind, peer) == (COOKIE_TAKEN, b.key)
        assert again[:-16] == initiation[:-16]
        assert again[-16:] != bytes(16)
        assert b.open(again, network=2, under_load=True)[0] == COOKIE_REPLY  # not from another address
        kind, _, pending, payload = b.open(again, under_load=True)
        assert (kind, payload) == (REQUEST, b"request")
        response = b.sessions.respond(pending, b"reply", now_ns=b.now)
        assert response is not None
        assert a.open(response)[0] == RESPONSE

    def test_the_next_initiation_still_has_the_cookie(self) -> None:
        a, b = pair()
        assert a.open(b.open(a.initiate(b), under_load=True)[1])[0] == COOKIE_TAKEN
        assert b.open(a.initiate(b), under_load=True)[0] == REQUEST

    def test_a_replayed_cookie_makes_us_send_nothing(self) -> None:
        a, b = pair()
        cookie = b.open(a.initiate(b), under_load=True)[1]
        assert a.open(cookie)[0] == COOKIE_TAKEN
        assert a.open(cookie) == (DROPPED, "state")

    def test_only_a_handshake_in_flight_takes_one(self) -> None:
        a, b = pair()
        old = b.open(a.initiate(b), under_load=True)[1]
        assert a.open(old[:4] + a.initiate(b)[4:8] + old[8:]) == (DROPPED, "auth")  # of another mac1
        assert a.open(old) == (DROPPED, "index")

    def test_an_initiation_without_mac1_gets_no_cookie(self) -> None:
        a, b = pair()
        initiation = a.initiate(b)
        assert b.open(initiation[:-32] + bytes(32), under_load=True) == (DROPPED, "mac")
