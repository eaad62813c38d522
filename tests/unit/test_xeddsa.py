"""XEdDSA signatures against plain-integer arithmetic and cryptography's Ed25519."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from ed25519_reference import Q, edwards_key, x25519_public, xeddsa_sign, xeddsa_verify
from hypothesis import given, settings
from hypothesis import strategies as st

from whcore.keys import SecretKey, verify

few_deterministic = settings(derandomize=True, deadline=None, max_examples=15)
SECRET = bytes(range(1, 33))
secrets = st.binary(min_size=32, max_size=32).filter(any)


def key_of(secret: bytes) -> SecretKey:
    return SecretKey.from_text(base64.b64encode(secret).decode())


@few_deterministic
@given(secret=secrets, message=st.binary(max_size=200))
def test_our_signatures_verify_elsewhere(secret: bytes, message: bytes) -> None:
    key = key_of(secret)
    signature = key.sign(message)
    assert xeddsa_verify(key.public_key, message, signature)
    Ed25519PublicKey.from_public_bytes(edwards_key(key.public_key)).verify(signature, message)
    assert verify(key.public_key, message, signature)


@few_deterministic
@given(secret=secrets, message=st.binary(max_size=200), noise=st.binary(min_size=64, max_size=64))
def test_signatures_made_elsewhere_verify_here(secret: bytes, message: bytes, noise: bytes) -> None:
    public_key = x25519_public(secret)
    assert public_key == key_of(secret).public_key
    assert verify(public_key, message, xeddsa_sign(secret, message, noise))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(message=st.binary(min_size=1, max_size=100), where=st.integers(0), bit=st.integers(0, 7))
def test_a_single_changed_bit_is_refused(message: bytes, where: int, bit: int) -> None:
    key = key_of(SECRET)
    parts = [key.public_key, message, key.sign(message)]
    for i, part in enumerate(parts):
        changed = bytearray(part)
        changed[where % len(part)] ^= 1 << bit
        assert not verify(*parts[:i], bytes(changed), *parts[i + 1 :])


def test_signatures_are_randomised() -> None:
    key = key_of(SECRET)
    assert key.sign(b"same") != key.sign(b"same")


def test_a_signature_has_one_form_only() -> None:
    key = key_of(SECRET)
    signature = key.sign(b"message")
    larger = int.from_bytes(signature[32:], "little") + Q
    assert not verify(key.public_key, b"message", signature[:32] + larger.to_bytes(32, "little"))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(public_key=st.binary(max_size=33), message=st.binary(max_size=5), signature=st.binary(max_size=65))
def test_malformed_input_is_false_and_nothing_else(
    public_key: bytes, message: bytes, signature: bytes
) -> None:
    assert verify(public_key, message, signature) is False
    assert verify(public_key.ljust(32, b"\xff")[:32], message, signature.ljust(64, b"\0")[:64]) is False


@pytest.mark.parametrize("u", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**256 - 1])
def test_keys_that_nobody_can_own_sign_nothing(u: int) -> None:
    """u = p - 1 has no Edwards form; under low-order keys, were they let in, such signatures could verify."""
    for signature in (bytes(64), b"\x01" + bytes(63)):
        assert verify(u.to_bytes(32, "little"), b"", signature) is False
