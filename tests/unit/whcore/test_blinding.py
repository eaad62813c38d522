"""Blinded keys, against Edwards arithmetic on Python's integers and the signatures of `cryptography`."""

from __future__ import annotations

import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from whcore import blinding, keys
from whcore.errors import InvalidKey, SystemFailure

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BASE_Y = 4 * pow(5, -1, P) % P

SECRET = random.Random(1).randbytes(64)

deterministic = settings(derandomize=True, deadline=None, max_examples=15)

Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """The Edwards curve's addition law (RFC 8032, 5.1.4), in affine coordinates."""
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def times(scalar: int, point: Point) -> Point:
    result = (0, 1)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def with_sign_0(y: int) -> Point:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x & 1 else x), y


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def blinded_by_integers(public_key: bytes, secret: bytes) -> bytes:
    u = int.from_bytes(public_key, "little")
    own = with_sign_0((u - 1) * pow(u + 1, -1, P) % P)
    return encode(add(own, times(int.from_bytes(secret, "little") % Q, with_sign_0(BASE_Y))))


@deterministic
@given(st.binary(min_size=64, max_size=64).filter(any), st.binary(max_size=600))
def test_a_signature_is_ed25519_under_the_blinded_key(secret, message):
    key = keys.SecretKey.generate()
    blinded = blinding.blind(key.public_key, secret)
    assert blinded == blinded_by_integers(key.public_key, secret)
    signature = blinding.sign(key, secret, message)
    Ed25519PublicKey.from_public_bytes(blinded).verify(signature, message)
    assert blinding.verify(blinded, message, signature)


def test_nothing_else_is_a_signature_of_it():
    key, other = keys.SecretKey.generate(), keys.SecretKey.generate()
    secret, later = random.Random(1).randbytes(64), random.Random(2).randbytes(64)
    blinded = blinding.blind(key.public_key, secret)
    for wrong in (
        blinding.sign(other, secret, b"message"),
        blinding.sign(key, later, b"message"),
        blinding.sign(key, secret, b"another"),
        key.sign(b"message"),
        bytes(64),
        b"",
    ):
        assert not blinding.verify(blinded, b"message", wrong)
        with pytest.raises((InvalidSignature, ValueError)):
            Ed25519PublicKey.from_public_bytes(blinded).verify(wrong, b"message")


def test_two_signatures_of_one_message_differ():
    """The nonce is hedged with randomness."""
    key, secret = keys.SecretKey.generate(), bytes(64)
    assert blinding.sign(key, secret, b"") != blinding.sign(key, secret, b"")


@pytest.mark.parametrize(
    "bad", [b"", bytes(31), bytes(32), bytes(33), b"\xff" * 32, P.to_bytes(32, "little")]
)
def test_what_is_no_key_cannot_be_blinded(bad):
    with pytest.raises(InvalidKey):
        blinding.blind(bad, bytes(64))


def test_a_point_of_the_twist_cannot_be_blinded():
    """Half of all numbers below p: X25519 takes them, Ed25519 has no such point."""
    refused = 0
    for number in range(2, 66):
        try:
            blinding.blind(number.to_bytes(32, "little"), SECRET)
        except InvalidKey:
            refused += 1
    assert 16 < refused < 48


def test_lengths_and_closed_keys_are_errors():
    key = keys.SecretKey.generate()
    with pytest.raises(ValueError, match="64"):
        blinding.blind(key.public_key, bytes(32))
    with pytest.raises(ValueError, match="64"):
        blinding.sign(key, bytes(63), b"")
    key.close()
    with pytest.raises(SystemFailure):
        blinding.sign(key, bytes(64), b"")


@pytest.mark.parametrize("blinded", [b"", bytes(31), bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_what_is_no_point_verifies_nothing(blinded):
    assert not blinding.verify(blinded, b"", bytes(64))


@deterministic
@given(st.binary(max_size=600), st.integers(0, 10_000))
def test_what_is_sealed_opens_unchanged_and_else_not_at_all(plaintext, position):
    rng = random.Random(position)
    key, nonce = rng.randbytes(32), rng.randbytes(24)
    sealed = blinding.seal(key, nonce, plaintext)
    assert len(sealed) == len(plaintext) + 16
    assert blinding.open_sealed(key, nonce, sealed) == plaintext
    damaged = bytearray(sealed)
    damaged[position % len(damaged)] ^= 1 + position % 255
    for wrong in (bytes(damaged), sealed[:-1], sealed[:15], b""):
        assert blinding.open_sealed(key, nonce, wrong) is None
    assert blinding.open_sealed(rng.randbytes(32), nonce, sealed) is None
    assert blinding.open_sealed(key[:31], nonce, sealed) is None
