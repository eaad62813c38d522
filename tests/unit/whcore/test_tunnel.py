"""The WireGuard tunnel without I/O, on a fake clock: handshakes, keys, timers of whitepaper section 6."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from noise.connection import Keypair, NoiseConnection

from whcore.errors import BadPacket, InvalidKey
from whcore.keys import SecretKey
from whcore.sansio import GIVE_UP, INITIATE, KEEPALIVE, ZERO, Tunnel

S = 1_000_000_000
WALL = 1_700_000_000 * S
JITTER = S // 3 + 1_000_000  # whitepaper 6.1: a third of a second, drawn in whole ms
MAC2_BIT = 132 * 8


@dataclass
class Pair:
    """Two tunnels to each other and one clock."""

    psk: bytes | None = None
    now: int = 1000 * S
    keys: tuple[SecretKey, SecretKey] = field(
        default_factory=lambda: (SecretKey.generate(), SecretKey.generate())
    )

    def __post_init__(self) -> None:
        a, b = self.keys
        self.a = Tunnel(a, b.public_key, psk=self.psk)
        self.b = Tunnel(b, a.public_key, psk=self.psk)

    @property
    def wall(self) -> int:
        return WALL + self.now

    def handshake(self, initiator: Tunnel, responder: Tunnel) -> None:
        initiation = initiator.initiate(now_ns=self.now, wall_ns=self.wall)
        initiator.complete(responder.answer(initiation, now_ns=self.now), now_ns=self.now, wall_ns=self.wall)

    def send(self, sender: Tunnel, receiver: Tunnel, packet: bytes) -> bytes:
        datagram = sender.seal(packet, now_ns=self.now)
        assert datagram is not None
        return receiver.open(datagram, now_ns=self.now, wall_ns=self.wall)[: len(packet)]

    def connected(self) -> Pair:
        self.handshake(self.a, self.b)
        self.send(self.a, self.b, b"")
        return self


@pytest.mark.parametrize("psk", [None, bytes(range(32))])
def test_packets_cross_both_ways_after_one_round_trip(psk: bytes | None) -> None:
    pair = Pair(psk=psk)
    pair.handshake(pair.a, pair.b)
    assert pair.b.seal(b"early", now_ns=pair.now) is None, "a responder must not send before it heard data"
    assert pair.send(pair.a, pair.b, b"ping") == b"ping"
    assert pair.send(pair.b, pair.a, b"pong") == b"pong"


def test_different_preshared_keys_never_agree() -> None:
    a, b = SecretKey.generate(), SecretKey.generate()
    left, right = Tunnel(a, b.public_key, psk=bytes(32)), Tunnel(b, a.public_key, psk=b"x" * 32)
    response = right.answer(left.initiate(now_ns=S, wall_ns=WALL), now_ns=S)
    with pytest.raises(BadPacket):
        left.complete(response, now_ns=S, wall_ns=WALL)


def test_an_independent_noise_implementation_completes_the_handshake() -> None:
    psk, theirs = bytes(range(32)), X25519PrivateKey.generate()
    oracle = NoiseConnection.from_name(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    oracle.set_as_responder()
    oracle.set_prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com")
    oracle.set_keypair_from_private_bytes(Keypair.STATIC, theirs.private_bytes_raw())
    oracle.set_psks(psk)
    oracle.start_handshake()
    tunnel = Tunnel(SecretKey.generate(), theirs.public_key().public_bytes_raw(), psk=psk)
    timestamp = oracle.read_message(tunnel.initiate(now_ns=S, wall_ns=WALL)[8:116])
    assert int.from_bytes(timestamp[:8], "big") == (1 << 62) + 10 + WALL // S, "TAI64N"
    assert oracle.write_message() is not None
    assert oracle.handshake_finished


def test_replayed_and_tampered_data_is_refused() -> None:
    pair = Pair().connected()
    datagram = pair.a.seal(b"once", now_ns=pair.now)
    assert datagram is not None
    tampered = datagram[:-1] + bytes([datagram[-1] ^ 1])
    with pytest.raises(BadPacket):
        pair.b.open(tampered, now_ns=pair.now, wall_ns=pair.wall)
    assert pair.b.open(datagram, now_ns=pair.now, wall_ns=pair.wall)[:4] == b"once"
    with pytest.raises(BadPacket):
        pair.b.open(datagram, now_ns=pair.now, wall_ns=pair.wall)


def test_a_replayed_initiation_is_refused() -> None:
    pair = Pair()
    initiation = pair.a.initiate(now_ns=pair.now, wall_ns=pair.wall)
    pair.b.answer(initiation, now_ns=pair.now)
    with pytest.raises(BadPacket):
        pair.b.answer(initiation, now_ns=pair.now + S)


def test_a_known_peer_is_answered_at_most_once_in_20_ms() -> None:
    pair = Pair()
    pair.b.answer(pair.a.initiate(now_ns=pair.now, wall_ns=pair.wall), now_ns=pair.now)
    second = pair.a.initiate(now_ns=pair.now, wall_ns=pair.wall + S)
    with pytest.raises(BadPacket):
        pair.b.answer(second, now_ns=pair.now + S // 50 - 1)
    pair.b.answer(second, now_ns=pair.now + S // 50)


@pytest.mark.parametrize("length", [0, 1, 4, 31, 91, 92, 147, 149, 1500])
def test_messages_of_a_wrong_length_are_refused(length: int) -> None:
    pair = Pair()
    initiation = pair.a.initiate(now_ns=pair.now, wall_ns=pair.wall)
    with pytest.raises(BadPacket):
        pair.b.answer((initiation * 12)[:length], now_ns=pair.now)
    with pytest.raises(BadPacket):
        pair.b.open((b"\x04\0\0\0" + initiation * 12)[:length], now_ns=pair.now, wall_ns=pair.wall)


@pytest.mark.parametrize("bit", [0, 40, 300, 700, 940, MAC2_BIT - 1])
def test_a_flipped_bit_before_mac2_is_refused(bit: int) -> None:
    pair = Pair()
    initiation = bytearray(pair.a.initiate(now_ns=pair.now, wall_ns=pair.wall))
    initiation[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadPacket):
        pair.b.answer(bytes(initiation), now_ns=pair.now)


def test_low_order_peers_are_refused() -> None:
    with pytest.raises(InvalidKey):
        Tunnel(SecretKey.generate(), bytes(32))


def test_old_keys_still_open_what_was_under_way_during_a_rekey() -> None:
    pair = Pair().connected()
    under_way = pair.b.seal(b"late", now_ns=pair.now)
    assert under_way is not None
    pair.now += S
    pair.handshake(pair.a, pair.b)
    assert pair.a.open(under_way, now_ns=pair.now, wall_ns=pair.wall)[:4] == b"late"
    assert pair.a.session_count == 2


def test_never_more_than_three_keypairs_are_held() -> None:
    pair = Pair().connected()
    for _ in range(10):
        pair.now += 6 * S
        pair.handshake(pair.a, pair.b)
        assert pair.a.session_count <= 3
        assert pair.b.session_count <= 3


def test_keys_are_refused_after_180_s() -> None:
    pair = Pair().connected()
    datagram = pair.a.seal(b"x", now_ns=pair.now)
    assert datagram is not None
    pair.now += 180 * S
    assert pair.a.seal(b"x", now_ns=pair.now) is None
    with pytest.raises(BadPacket):
        pair.b.open(datagram, now_ns=pair.now, wall_ns=pair.wall)


def test_the_initiator_rekeys_after_120_s_of_sending_and_the_responder_does_not() -> None:
    pair = Pair().connected()
    pair.now += 120 * S - 1
    pair.send(pair.a, pair.b, b"x")
    assert not pair.a.wants_rekey()
    pair.now += 1
    pair.send(pair.a, pair.b, b"x")
    pair.send(pair.b, pair.a, b"x")
    assert pair.a.wants_rekey()
    assert not pair.b.wants_rekey()


def test_an_initiator_that_only_receives_rekeys_once_before_the_key_dies() -> None:
    pair = Pair().connected()
    pair.now += 165 * S
    pair.send(pair.b, pair.a, b"x")
    assert pair.a.wants_rekey()
    pair.send(pair.b, pair.a, b"x")
    assert not pair.a.wants_rekey()


def test_message_limits() -> None:
    pair = Pair().connected()
    pair.a.skip_messages(2**60)
    assert pair.a.seal(b"x", now_ns=pair.now) is not None
    assert pair.a.wants_rekey(), "REKEY_AFTER_MESSAGES"
    pair.a.skip_messages(2**64 - 2**13 - 1 - 2**60 - 3)
    assert pair.a.seal(b"last", now_ns=pair.now) is not None
    assert pair.a.seal(b"one more", now_ns=pair.now) is None, "REJECT_AFTER_MESSAGES"


def test_a_received_packet_is_answered_with_a_keepalive_after_10_s_unless_something_was_sent() -> None:
    pair = Pair().connected()
    pair.send(pair.a, pair.b, b"x")
    assert pair.b.expire(pair.now + 10 * S - 1)[0] == 0
    actions, _ = pair.b.expire(pair.now + 10 * S)
    assert actions == KEEPALIVE
    pair.now += 20 * S
    pair.send(pair.a, pair.b, b"x")
    pair.send(pair.b, pair.a, b"y")
    assert pair.b.expire(pair.now + 12 * S)[0] == 0


def test_silence_after_sending_starts_a_handshake_after_15_s_with_jitter() -> None:
    pair = Pair().connected()
    pair.send(pair.b, pair.a, b"")
    pair.send(pair.a, pair.b, b"x")
    assert pair.a.expire(pair.now + 15 * S - 1)[0] & INITIATE == 0
    actions, _ = pair.a.expire(pair.now + 15 * S + JITTER)
    assert actions & INITIATE


def test_an_unanswered_initiation_is_repeated_each_5_s_and_given_up_after_90_s() -> None:
    pair = Pair()
    started = pair.now
    resent = 0
    while True:
        pair.a.initiate(now_ns=pair.now, wall_ns=pair.wall)
        assert not pair.a.may_initiate(pair.now + 5 * S - 1)
        _, deadline = pair.a.expire(pair.now)
        assert deadline is not None
        assert 5 * S <= deadline - pair.now <= 5 * S + JITTER
        pair.now = deadline
        actions, _ = pair.a.expire(pair.now)
        if actions & GIVE_UP:
            break
        assert actions == INITIATE
        resent += 1
    assert resent == 18
    assert 90 * S <= pair.now - started <= 19 * (5 * S + JITTER)


def test_all_keys_are_wiped_540_s_after_the_last_handshake() -> None:
    pair = Pair().connected()
    assert pair.a.expire(pair.now + 540 * S - 1)[0] & ZERO == 0
    actions, _ = pair.a.expire(pair.now + 540 * S)
    assert actions & ZERO
    assert pair.a.session_count == 0


def test_persistent_keepalive_runs_from_the_last_packet_in_either_direction() -> None:
    pair = Pair().connected()
    pair.a.set_keepalive(25, now_ns=pair.now)
    assert pair.a.expire(pair.now)[0] == KEEPALIVE, "one at once"
    pair.send(pair.a, pair.b, b"")
    assert pair.a.expire(pair.now + 25 * S - 1)[0] & KEEPALIVE == 0
    pair.now += 20 * S
    pair.send(pair.b, pair.a, b"")
    assert pair.a.expire(pair.now + 24 * S)[0] & KEEPALIVE == 0
    assert pair.a.expire(pair.now + 25 * S)[0] & KEEPALIVE


def test_a_second_copy_of_a_response_is_refused() -> None:
    pair = Pair()
    initiation = pair.a.initiate(now_ns=pair.now, wall_ns=pair.wall)
    response = pair.b.answer(initiation, now_ns=pair.now)
    pair.a.complete(response, now_ns=pair.now, wall_ns=pair.wall)
    with pytest.raises(BadPacket):
        pair.a.complete(response, now_ns=pair.now, wall_ns=pair.wall)


def test_initiations_stay_acceptable_after_the_clock_was_ahead() -> None:
    pair = Pair()
    for wall in (pair.wall + 10**9 * S, pair.wall, pair.wall - 10**8 * S, pair.wall):
        pair.now += 10 * S
        initiation = pair.a.initiate(now_ns=pair.now, wall_ns=wall)
        pair.a.complete(pair.b.answer(initiation, now_ns=pair.now), now_ns=pair.now, wall_ns=wall)
