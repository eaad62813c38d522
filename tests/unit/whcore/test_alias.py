"""Aliases in the core: derived from a seed (test_invitation has the values), proved in a session."""

import hashlib
import hmac

import pytest
from control_sessions import connect
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from secret_bytes import secret_bytes

from whcore import alias
from whcore.envelope import ControlSessions
from whcore.errors import InvalidKey, SystemFailure
from whcore.keys import SecretKey, workbit

SEED = bytes(range(16))
S = 10**9


def oracle(secret: SecretKey, public: bytes, transcript: bytes) -> bytes:
    shared = X25519PrivateKey.from_private_bytes(secret_bytes(secret)).exchange(
        X25519PublicKey.from_public_bytes(public)
    )
    extracted = hmac.digest(b"", shared, hashlib.blake2s)
    expanded = hmac.digest(extracted, b"wirehub alias\1", hashlib.blake2s)
    return hmac.digest(expanded, transcript, hashlib.blake2s)


def test_an_alias_is_the_same_wherever_it_is_derived():
    first = alias.derive_alias(SEED, b"public", 8)
    assert first.public_key == alias.derive_alias(SEED, b"public", 8).public_key
    assert workbit(first.public_key, b"public") >= 8
    assert first.public_key != alias.derive_alias(SEED[::-1], b"public", 8).public_key


@pytest.mark.parametrize(("seed", "bits"), [(b"", 0), (SEED + b"x", 0), (SEED, -1), (SEED, 25)])
def test_an_alias_needs_a_seed_and_bearable_work(seed: bytes, bits: int):
    with pytest.raises(ValueError):
        alias.derive_alias(seed, b"public", bits)


def test_both_owners_compute_the_proof_as_the_protocol_says():
    ours, server = SecretKey.generate(), SecretKey.generate()
    proof = alias.prove(ours, server.public_key, b"transcript")
    assert proof == oracle(ours, server.public_key, b"transcript")
    assert proof == alias.prove(server, ours.public_key, b"transcript")
    assert alias.check(server, ours.public_key, b"transcript", proof)


def test_a_proof_holds_for_its_keys_and_its_transcript_only():
    ours, server, other = (SecretKey.generate() for _ in range(3))
    proof = alias.prove(ours, server.public_key, b"transcript")
    assert not alias.check(server, ours.public_key, b"transcripT", proof)
    assert not alias.check(server, other.public_key, b"transcript", proof)
    assert not alias.check(other, ours.public_key, b"transcript", proof)
    for bit in range(256):
        wrong = bytearray(proof)
        wrong[bit // 8] ^= 1 << bit % 8
        assert not alias.check(server, ours.public_key, b"transcript", bytes(wrong))


@pytest.mark.parametrize("public", [b"", bytes(32), b"\xff" * 32, bytes(33)])
def test_keys_that_nobody_has_prove_nothing(public: bytes):
    ours = SecretKey.generate()
    assert not alias.check(ours, public, b"", bytes(32))
    with pytest.raises((InvalidKey, ValueError)):
        alias.prove(ours, public, b"")


@pytest.mark.parametrize("proof", [b"", bytes(31), bytes(33)])
def test_a_proof_of_another_length_is_none(proof: bytes):
    ours, server = SecretKey.generate(), SecretKey.generate()
    assert not alias.check(ours, server.public_key, b"", proof)


def test_a_closed_secret_proves_nothing():
    ours, server = SecretKey.generate(), SecretKey.generate()
    ours.close()
    with pytest.raises(SystemFailure):
        alias.prove(ours, server.public_key, b"")


# The handshake hash that proofs are over


def test_both_ends_of_a_session_have_its_hash_and_for_a_while_the_one_before():
    keys = [SecretKey.generate(), SecretKey.generate()]
    a, b = (ControlSessions(key, b"public") for key in keys)
    a_key, b_key = (key.public_key for key in keys)
    assert a.handshake_hashes(b_key) == ()
    connect(a, b, a_key, b_key, 1 * S)
    (first,) = a.handshake_hashes(b_key)
    assert b.handshake_hashes(a_key) == (first,)
    assert len(first) == 32
    connect(b, a, b_key, a_key, 2 * S)
    second = b.handshake_hashes(a_key)[0]
    assert second != first
    assert a.handshake_hashes(b_key) == (second, first)
    assert b.handshake_hashes(a_key) == (second, first)
    for sessions in (a, b):
        sessions.expire(70 * S)
    assert a.handshake_hashes(b_key) == (second,)
    a.drop(b_key)
    assert a.handshake_hashes(b_key) == ()
