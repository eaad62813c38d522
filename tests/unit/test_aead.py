"""The AEADs against cryptography's ChaCha20-Poly1305 and an XChaCha20 made of RFC 8439's block function."""

import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from whcore import aead
from whcore.errors import BadPacket

deterministic = settings(derandomize=True, deadline=None)
keys = st.binary(min_size=32, max_size=32)
nonces = st.binary(min_size=24, max_size=24)
counters = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))
texts = st.one_of(st.binary(max_size=200), st.binary(min_size=1400, max_size=1500))


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """draft-irtf-cfrg-xchacha-03, 2.2."""
    words = list(struct.unpack("<16L", b"expand 32-byte k" + key + nonce))

    def quarter_round(*indices: int) -> None:
        a, b, c, d = indices
        for target, other, mixed, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            words[target] = (words[target] + words[other]) & 0xFFFFFFFF
            word = words[mixed] ^ words[target]
            words[mixed] = (word << bits | word >> (32 - bits)) & 0xFFFFFFFF

    for _ in range(10):
        for column in range(4):
            quarter_round(column, 4 + column, 8 + column, 12 + column)
        for start in range(4):
            quarter_round(start, 4 + (start + 1) % 4, 8 + (start + 2) % 4, 12 + (start + 3) % 4)
    return struct.pack("<8L", *words[:4], *words[12:])


@deterministic
@given(key=keys, counter=counters, text=texts, ad=st.binary(max_size=40))
def test_seal_agrees_with_cryptography_and_opens_again(
    key: bytes, counter: int, text: bytes, ad: bytes
) -> None:
    sealed = aead.seal(key, counter, text, ad)
    assert sealed == ChaCha20Poly1305(key).encrypt(bytes(4) + struct.pack("<Q", counter), text, ad)
    assert aead.open(key, counter, sealed, ad) == text


def test_hchacha20_of_this_test_passes_the_draft_vector() -> None:
    key = bytes(range(32))
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    expected = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    assert hchacha20(key, nonce).hex() == expected


@deterministic
@given(key=keys, nonce=nonces, text=st.binary(max_size=200), ad=st.binary(max_size=40))
def test_xseal_is_chacha_under_the_derived_key(key: bytes, nonce: bytes, text: bytes, ad: bytes) -> None:
    sealed = aead.xseal(key, nonce, text, ad)
    derived = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    assert sealed == derived.encrypt(bytes(4) + nonce[16:], text, ad)
    assert aead.xopen(key, nonce, sealed, ad) == text


@deterministic
@given(text=st.binary(max_size=60), position=st.integers(0), bit=st.integers(0, 7))
def test_a_single_changed_bit_is_refused(text: bytes, position: int, bit: int) -> None:
    key, nonce = bytes(32), bytes(24)
    for seal, open_, nonce_or_counter in ((aead.seal, aead.open, 5), (aead.xseal, aead.xopen, nonce)):
        sealed = bytearray(seal(key, nonce_or_counter, text, b"ad"))
        sealed[position % len(sealed)] ^= 1 << bit
        with pytest.raises(BadPacket):
            open_(key, nonce_or_counter, bytes(sealed), b"ad")


def test_another_counter_or_other_data_is_refused() -> None:
    sealed = aead.seal(bytes(32), 7, b"text", b"ad")
    for counter, ad in ((8, b"ad"), (7, b"AD"), (7, b"")):
        with pytest.raises(BadPacket):
            aead.open(bytes(32), counter, sealed, ad)


@pytest.mark.parametrize("n", [0, 1, 15])
def test_less_than_a_tag_is_a_bad_packet(n: int) -> None:
    with pytest.raises(BadPacket, match="length"):
        aead.open(bytes(32), 0, bytes(n))
    with pytest.raises(BadPacket, match="length"):
        aead.xopen(bytes(32), bytes(24), bytes(n))


def test_our_own_wrong_lengths_are_value_errors() -> None:
    with pytest.raises(ValueError, match="key"):
        aead.seal(bytes(31), 0, b"")
    with pytest.raises(ValueError, match="nonce"):
        aead.xseal(bytes(32), bytes(12), b"")
