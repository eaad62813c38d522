"""XEdDSA signatures against cryptography's Ed25519 and against plain integers.

The integers come first: slow, not constant-time, with affine points and their textbook addition law, written
from RFC 8032 and Signal's XEdDSA specification alone.
"""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from whcore.keys import SecretKey, verify

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def recover_x(y: int, sign: int) -> int | None:
    """RFC 8032, 5.1.3."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2
    x3 = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y3 = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x3, y3


def multiply(scalar: int, point: Point) -> Point:
    total = (0, 1)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


B_Y = 4 * pow(5, -1, P) % P
B_X = recover_x(B_Y, 0)
assert B_X is not None
B: Point = (B_X, B_Y)


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    number = int.from_bytes(data, "little")
    y, sign = number & (2**255 - 1), number >> 255
    x = recover_x(y, sign) if y < P else None
    return None if x is None else (x, y)


def clamp(secret: bytes) -> int:
    """RFC 7748, 5."""
    return int.from_bytes(secret, "little") & ~7 & (2**255 - 1) | 2**254


def x25519_public(secret: bytes) -> bytes:
    y = multiply(clamp(secret), B)[1]
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little")


def edwards_key(public_key: bytes) -> bytes:
    """The Ed25519 public key, sign 0, of an X25519 one."""
    u = int.from_bytes(public_key, "little")
    return ((u - 1) * pow(u + 1, -1, P) % P).to_bytes(32, "little")


def sha512_mod_q(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % Q


def xeddsa_sign(secret: bytes, message: bytes, noise: bytes) -> bytes:
    k = clamp(secret)
    x, y = multiply(k, B)
    a = -k % Q if x & 1 else k % Q
    public = y.to_bytes(32, "little")
    r = sha512_mod_q(b"\xfe" + b"\xff" * 31, a.to_bytes(32, "little"), message, noise)
    commitment = encode(multiply(r, B))
    s = (r + sha512_mod_q(commitment, public, message) * a) % Q
    return commitment + s.to_bytes(32, "little")


def xeddsa_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    public = edwards_key(public_key)
    key_point, commitment = decode(public), decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key_point is None or commitment is None or s >= Q:
        return False
    h = sha512_mod_q(signature[:32], public, message)
    return multiply(s, B) == add(commitment, multiply(h, key_point))


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
