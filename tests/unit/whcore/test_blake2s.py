"""BLAKE2s, HMAC and KDF against hashlib and hmac of the standard library."""

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whcore import blake2s

deterministic = settings(derandomize=True, deadline=None)


@deterministic
@given(data=st.binary(max_size=600), key=st.binary(max_size=32), size=st.integers(1, 32))
def test_digest_agrees_with_hashlib(data: bytes, key: bytes, size: int) -> None:
    assert (
        blake2s.digest(data, key=key, size=size) == hashlib.blake2s(data, key=key, digest_size=size).digest()
    )


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 127, 128, 129, 192, 4096])
def test_digest_agrees_at_block_edges(n: int) -> None:
    data = bytes(i & 0xFF for i in range(n))
    assert blake2s.digest(data) == hashlib.blake2s(data).digest()
    assert blake2s.digest(data, key=b"k") == hashlib.blake2s(data, key=b"k").digest()


@deterministic
@given(key=st.binary(max_size=200), data=st.binary(max_size=300))
def test_hmac_agrees_with_the_standard_library(key: bytes, data: bytes) -> None:
    assert blake2s.hmac(key, data) == hmac.digest(key, data, hashlib.blake2s)


def hkdf(chaining_key: bytes, data: bytes, n: int) -> tuple[bytes, ...]:
    """RFC 5869 with an empty info."""
    secret = hmac.digest(chaining_key, data, hashlib.blake2s)
    outputs: list[bytes] = []
    for number in range(1, n + 1):
        previous = outputs[-1] if outputs else b""
        outputs.append(hmac.digest(secret, previous + bytes([number]), hashlib.blake2s))
    return tuple(outputs)


@deterministic
@given(chaining_key=st.binary(min_size=32, max_size=32), data=st.binary(max_size=64), n=st.integers(1, 3))
def test_kdf_is_hkdf(chaining_key: bytes, data: bytes, n: int) -> None:
    assert blake2s.kdf_outputs(chaining_key, data, n) == hkdf(chaining_key, data, n)


def test_lengths_out_of_range_are_refused() -> None:
    for size in (0, 33):
        with pytest.raises(ValueError, match="size"):
            blake2s.digest(b"", size=size)
    with pytest.raises(ValueError, match="key"):
        blake2s.digest(b"", key=bytes(33))
    with pytest.raises(ValueError, match="chaining_key"):
        blake2s.kdf_outputs(bytes(31), b"", 1)
    for n in (0, 4):
        with pytest.raises(ValueError, match="n is"):
            blake2s.kdf_outputs(bytes(32), b"", n)
