"""Control sessions (docs/protocol.md section 2), between two of them and against noiseprotocol."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from whcore.envelope import COOKIE_REPLY, COOKIE_TAKEN, DATA, DROPPED, REQUEST, RESPONSE, ControlSessions
from whcore.errors import InvalidKey, SystemFailure
from whcore.keys import SecretKey, workbit

deterministic = settings(derandomize=True, deadline=None, max_examples=60)

NS = 1_000_000_000
NAMESPACE = b"tests"
UNIX_NS = 1_700_000_000 * NS
NETWORK_SECRET = bytes(range(32))
MODES = [None, NETWORK_SECRET]
both_modes = pytest.mark.parametrize("network_secret", MODES, ids=["open", "secret"])


def source(network: int = 1, port: int = 62096) -> bytes:
    """192.0.x.1 of an IPv4 /24."""
    return bytes(10) + b"\xff\xff" + bytes([192, 0, network % 256, 1]) + port.to_bytes(2, "big")


def secret_key(seed: int) -> SecretKey:
    return SecretKey.from_text(base64.b64encode(raw_secret(seed)).decode())


def raw_secret(seed: int) -> bytes:
    return hashlib.sha256(b"test key %d" % seed).digest()


@dataclass
class Node:
    """One side, with a clock of its own and the few calls that most tests make."""

    seed: int
    network_secret: bytes | None = None
    workbit: int = 0
    max_sessions: int = 64
    last_timestamp_ns: int = 0
    now: int = 1000 * NS
    sessions: ControlSessions = field(init=False)
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        secret = secret_key(self.seed)
        self.key = secret.public_key
        self.sessions = ControlSessions(
            secret,
            NAMESPACE,
            network_secret=self.network_secret,
            workbit=self.workbit,
            max_sessions=self.max_sessions,
            last_timestamp_ns=self.last_timestamp_ns,
        )

    def initiate(self, peer: "Node", payload: bytes = b"request", pad_to: int = 400) -> bytes:
        return self.sessions.initiate(
            peer.key, payload, pad_to=pad_to, now_ns=self.now, wall_ns=UNIX_NS + self.now
        )

    def open(self, datagram: bytes, network: int = 1, under_load: bool = False):  # type: ignore[no-untyped-def]
        if under_load:
            self.overload()
        return self.sessions.open(datagram, source(network), now_ns=self.now, wall_ns=UNIX_NS + self.now)

    def overload(self) -> None:
        """More INITs in this second than are looked at without a mac2, from elsewhere."""
        junk = b"\xff\x02\x01\x00" + bytes(200)
        junk = junk[:-32] + mac1(junk, self.key, self.network_secret) + bytes(16)
        for _ in range(201):
            self.sessions.open(junk, source(99), now_ns=self.now, wall_ns=UNIX_NS + self.now)

    def answer(self, datagram: bytes, payload: bytes = b"reply") -> bytes:
        """Open an INIT that must be good and respond to it."""
        opened = self.open(datagram)
        assert opened[0] == REQUEST, opened
        response = self.sessions.respond(opened[2], payload, now_ns=self.now)
        assert response is not None
        return response

    def seal(self, peer: "Node", payload: bytes = b"data", pad_to: int = 32) -> bytes:
        datagram = self.sessions.seal(peer.key, payload, now_ns=self.now, pad_to=pad_to)
        assert datagram is not None
        return datagram


def handshake(initiator: Node, responder: Node) -> None:
    response = responder.answer(initiator.initiate(responder))
    assert initiator.open(response) == (RESPONSE, responder.key, b"reply")


def connect(initiator: Node, responder: Node) -> None:
    """A session that both sides have confirmed."""
    handshake(initiator, responder)
    assert responder.open(initiator.seal(responder)) == (DATA, initiator.key, b"data", True)


def pair(network_secret: bytes | None = None) -> tuple[Node, Node]:
    return Node(1, network_secret), Node(2, network_secret)


def by_key(a: Node, b: Node) -> tuple[Node, Node]:
    return (a, b) if a.key < b.key else (b, a)


def advance(ns: int, *nodes: Node) -> None:
    for node in nodes:
        node.now += ns


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


def oracle(seed: int, network_secret: bytes | None, remote_static: bytes | None = None) -> NoiseConnection:
    """noiseprotocol as the control channel uses Noise; the initiator where remote_static is given."""
    name = (
        b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
        if network_secret is None
        else b"Noise_IKpsk0_25519_ChaChaPoly_BLAKE2s"
    )
    connection = NoiseConnection.from_name(name)
    connection.set_prologue(b"wirehub 2\0" + NAMESPACE)
    connection.set_keypair_from_private_bytes(Keypair.STATIC, raw_secret(seed))
    if network_secret is not None:
        connection.set_psks(psk=network_secret)
    if remote_static is None:
        connection.set_as_responder()
    else:
        connection.set_as_initiator()
        connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote_static)
    connection.start_handshake()
    return connection


def mac1(datagram: bytes, receiver: bytes, network_secret: bytes | None) -> bytes:
    key = hashlib.blake2s(b"wh2 mac1" + receiver + (network_secret or bytes(32))).digest()
    return hashlib.blake2s(datagram[:-32], key=key, digest_size=16).digest()


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
