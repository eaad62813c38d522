"""Which keys are refused, with the X25519 of the `cryptography` package as the oracle."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.wire.public_key import is_public_key

P = 2**255 - 19
SECRET = X25519PrivateKey.from_private_bytes(b"\x42" * 32)
LOW_ORDER = [
    0,
    1,
    P - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]


def contributes(key: bytes) -> bool:
    """Whether a Diffie-Hellman with it gives anything but zeros."""
    try:
        SECRET.exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True


@settings(derandomize=True, deadline=None)
@given(
    st.one_of(
        st.integers(0, P - 1), st.integers(0, 40), st.integers(P - 40, P - 1), st.sampled_from(LOW_ORDER)
    )
)
def test_canonical_keys_are_judged_as_the_oracle_does(u):
    key = u.to_bytes(32, "little")
    assert is_public_key(key) == contributes(key)


@pytest.mark.parametrize("u", LOW_ORDER)
def test_low_order_keys_are_refused(u):
    assert not is_public_key(u.to_bytes(32, "little"))


@pytest.mark.parametrize("u", [P, P + 1, P + 9, 2**255 - 1, 2**255 + 9, 2**256 - 1])
def test_a_second_form_of_a_key_is_refused(u):
    assert not is_public_key(u.to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_other_lengths_are_refused(length):
    assert not is_public_key(b"\x09" * length)
