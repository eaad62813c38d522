"""Noise handshakes against noiseprotocol, an independent implementation, in both roles."""

import base64
import pickle
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise.connection import NoiseConnection
from noise_oracle import noise_connection

from whcore.errors import BadPacket, InvalidKey
from whcore.keys import SecretKey
from whcore.noise import Initiator, Responder, Suite

deterministic = settings(derandomize=True, deadline=None, max_examples=30)


@dataclass(frozen=True)
class Pattern:
    name: bytes
    psk_position: int
    prologue: bytes


PATTERNS = [
    Pattern(b"Noise_IK_25519_ChaChaPoly_BLAKE2s", -1, b"wirehub 2\0tests"),
    Pattern(b"Noise_IKpsk0_25519_ChaChaPoly_BLAKE2s", 0, b"wirehub 2\0tests"),
    Pattern(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s", 2, b"WireGuard v1 zx2c4 Jason@zx2c4.com"),
]
each_pattern = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name.decode())

secrets = st.binary(min_size=32, max_size=32).filter(any)  # zeros are no secret key
payloads = st.binary(max_size=300)


def secret_key(secret: bytes) -> SecretKey:
    return SecretKey.from_text(base64.b64encode(secret).decode())


def suite_of(pattern: Pattern) -> Suite:
    return Suite(pattern.name, pattern.prologue, pattern.psk_position)


def psk_of(pattern: Pattern, psk: bytes) -> bytes | None:
    return None if pattern.psk_position < 0 else psk


def oracle(
    pattern: Pattern, secret: bytes, psk: bytes, remote_static: bytes | None = None
) -> NoiseConnection:
    """noiseprotocol's side; the initiator where remote_static is given."""
    return noise_connection(pattern.name, pattern.prologue, secret, psk_of(pattern, psk), remote_static)


@each_pattern
@deterministic
@given(a=secrets, b=secrets, psk=secrets, request_payload=payloads, reply_payload=payloads)
def test_initiator_completes_a_handshake_with_noiseprotocol(
    pattern: Pattern, a: bytes, b: bytes, psk: bytes, request_payload: bytes, reply_payload: bytes
) -> None:
    theirs = oracle(pattern, b, psk)
    ours = Initiator(suite_of(pattern), secret_key(a), secret_key(b).public_key, psk=psk_of(pattern, psk))
    assert bytes(theirs.read_message(ours.write(request_payload))) == request_payload
    payload, transport = ours.read(bytes(theirs.write_message(reply_payload)))
    assert payload == reply_payload
    assert ours.handshake_hash == theirs.get_handshake_hash()
    for i in range(3):
        message = b"message %d" % i
        assert bytes(theirs.decrypt(transport.seal(message))) == message
        assert transport.open(bytes(theirs.encrypt(message))) == message


@each_pattern
@deterministic
@given(a=secrets, b=secrets, psk=secrets, request_payload=payloads, reply_payload=payloads)
def test_responder_completes_a_handshake_with_noiseprotocol(
    pattern: Pattern, a: bytes, b: bytes, psk: bytes, request_payload: bytes, reply_payload: bytes
) -> None:
    theirs = oracle(pattern, a, psk, secret_key(b).public_key)
    ours = Responder(suite_of(pattern), secret_key(b), psk=psk_of(pattern, psk))
    assert ours.read(bytes(theirs.write_message(request_payload))) == request_payload
    assert ours.remote_static == secret_key(a).public_key
    message, transport = ours.write(reply_payload)
    assert bytes(theirs.read_message(message)) == reply_payload
    assert ours.handshake_hash == theirs.get_handshake_hash()
    assert bytes(theirs.decrypt(transport.seal(b"hello"))) == b"hello"
    assert transport.open(bytes(theirs.encrypt(b"hello"))) == b"hello"


@each_pattern
def test_same_ephemeral_makes_the_same_message(pattern: Pattern) -> None:
    b, psk = secret_key(b"b" * 32), psk_of(pattern, b"p" * 32)

    def message(ephemeral: SecretKey | None) -> bytes:
        initiator = Initiator(
            suite_of(pattern), secret_key(b"a" * 32), b.public_key, psk=psk, ephemeral=ephemeral
        )
        return initiator.write(b"payload")

    fixed = secret_key(b"e" * 32)
    assert message(fixed) == message(fixed)
    assert message(fixed)[:32] == fixed.public_key
    assert message(None) != message(None)


@each_pattern
@deterministic
@given(bit=st.integers(0, 8 * (96 + 7) - 1))
def test_a_flipped_bit_in_the_first_message_is_refused(pattern: Pattern, bit: int) -> None:
    b, psk = secret_key(b"b" * 32), psk_of(pattern, b"p" * 32)
    message = bytearray(
        Initiator(suite_of(pattern), secret_key(b"a" * 32), b.public_key, psk=psk).write(b"payload")
    )
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises((BadPacket, InvalidKey)):
        Responder(suite_of(pattern), b, psk=psk).read(bytes(message))


@each_pattern
@deterministic
@given(bit=st.integers(0, 8 * (48 + 5) - 1))
def test_a_forged_second_message_does_not_spoil_the_right_one(pattern: Pattern, bit: int) -> None:
    a, b, psk = secret_key(b"a" * 32), secret_key(b"b" * 32), psk_of(pattern, b"p" * 32)
    initiator = Initiator(suite_of(pattern), a, b.public_key, psk=psk)
    responder = Responder(suite_of(pattern), b, psk=psk)
    responder.read(initiator.write(b""))
    message, _ = responder.write(b"reply")
    forged = bytearray(message)
    forged[bit // 8] ^= 1 << bit % 8
    with pytest.raises((BadPacket, InvalidKey)):
        initiator.read(bytes(forged))
    assert initiator.read(message)[0] == b"reply"


@each_pattern
def test_truncated_messages_are_refused(pattern: Pattern) -> None:
    a, b, psk = secret_key(b"a" * 32), secret_key(b"b" * 32), psk_of(pattern, b"p" * 32)
    initiator = Initiator(suite_of(pattern), a, b.public_key, psk=psk)
    message = initiator.write(b"payload")
    for n in range(len(message)):
        with pytest.raises((BadPacket, InvalidKey)):
            Responder(suite_of(pattern), b, psk=psk).read(message[:n])
    responder = Responder(suite_of(pattern), b, psk=psk)
    responder.read(message)
    reply, _ = responder.write(b"reply")
    for n in range(len(reply)):
        with pytest.raises((BadPacket, InvalidKey)):
            initiator.read(reply[:n])


@pytest.mark.parametrize("pattern", PATTERNS[1:], ids=lambda pattern: pattern.name.decode())
def test_another_preshared_key_fails(pattern: Pattern) -> None:
    a, b = secret_key(b"a" * 32), secret_key(b"b" * 32)
    initiator = Initiator(suite_of(pattern), a, b.public_key, psk=b"p" * 32)
    responder = Responder(suite_of(pattern), b, psk=b"q" * 32)
    with pytest.raises(BadPacket):
        responder.read(initiator.write(b""))
        initiator.read(responder.write(b"")[0])


def test_another_prologue_fails() -> None:
    a, b = secret_key(b"a" * 32), secret_key(b"b" * 32)
    name = PATTERNS[0].name
    message = Initiator(Suite(name, b"wirehub 2\0one"), a, b.public_key).write(b"")
    with pytest.raises(BadPacket):
        Responder(Suite(name, b"wirehub 2\0two"), b).read(message)


def test_low_order_and_non_canonical_keys_are_refused() -> None:
    suite, b = suite_of(PATTERNS[0]), secret_key(b"b" * 32)
    bad_keys = [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, (2**255 - 19 + 9).to_bytes(32, "little")]
    message = Initiator(suite, secret_key(b"a" * 32), b.public_key).write(b"")
    for bad in bad_keys:
        with pytest.raises(InvalidKey):
            Initiator(suite, b, bad)
        with pytest.raises(InvalidKey):
            Responder(suite, b).read(bad + message[32:])


def test_transport_refuses_replays_and_secrets_cannot_be_pickled() -> None:
    a, b = secret_key(b"a" * 32), secret_key(b"b" * 32)
    initiator, responder = (
        Initiator(suite_of(PATTERNS[0]), a, b.public_key),
        Responder(suite_of(PATTERNS[0]), b),
    )
    responder.read(initiator.write(b""))
    message, theirs = responder.write(b"")
    _, ours = initiator.read(message)
    sealed = ours.seal(b"once")
    assert theirs.open(sealed) == b"once"
    with pytest.raises(BadPacket):
        theirs.open(sealed)
    with pytest.raises(TypeError):
        pickle.dumps(ours)


def test_wrong_arguments_are_refused() -> None:
    key = secret_key(b"a" * 32)
    with pytest.raises(ValueError, match="position"):
        Suite(PATTERNS[0].name, b"", 1)
    with pytest.raises(ValueError, match="preshared"):
        Responder(suite_of(PATTERNS[1]), key)
    with pytest.raises(ValueError, match="32 bytes"):
        Responder(suite_of(PATTERNS[1]), key, psk=b"short")
