"""The AEADs against cryptography's ChaCha20-Poly1305 and an XChaCha20 made of RFC 8439's block function."""

import os
import struct
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

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


# Engines

lengths = st.one_of(st.sampled_from((0, 1, 16, 63, 64, 65, 256, 512, 1408)), st.integers(0, 3000))
batches = st.lists(st.tuples(keys, counters, lengths), max_size=40)
each_engine = pytest.mark.parametrize("engine", aead.engines())

Message = tuple[bytes, int, bytes]


def text_of(length: int) -> bytes:
    return bytes(7 * i % 251 for i in range(length))


def expected(messages: list[Message]) -> list[bytes]:
    return [
        ChaCha20Poly1305(key).encrypt(bytes(4) + struct.pack("<Q", counter), text, None)
        for key, counter, text in messages
    ]


def sealed_again(messages: list[Message], sealed: list[bytes]) -> list[Message]:
    return [(key, counter, each) for (key, counter, _), each in zip(messages, sealed, strict=True)]


@each_engine
@deterministic
@given(batch=batches)
def test_each_engine_seals_and_opens_what_cryptography_does(
    engine: str, batch: list[tuple[bytes, int, int]]
) -> None:
    messages = [(key, counter, text_of(length)) for key, counter, length in batch]
    sealed = expected(messages)
    assert aead.run_batch(engine, True, messages) == sealed
    assert aead.run_batch(engine, False, sealed_again(messages, sealed)) == [each[2] for each in messages]


@each_engine
@deterministic
@given(batch=batches.filter(bool), victim=st.integers(0), position=st.integers(0), bit=st.integers(0, 7))
def test_each_engine_refuses_a_changed_bit_and_nothing_else(
    engine: str, batch: list[tuple[bytes, int, int]], victim: int, position: int, bit: int
) -> None:
    messages = [(key, counter, text_of(length)) for key, counter, length in batch]
    sealed = expected(messages)
    victim %= len(sealed)
    changed = bytearray(sealed[victim])
    changed[position % len(changed)] ^= 1 << bit
    sealed[victim] = bytes(changed)
    opened: list[bytes | None] = [each[2] for each in messages]
    opened[victim] = None
    assert aead.run_batch(engine, False, sealed_again(messages, sealed)) == opened


@each_engine
def test_each_engine_takes_more_than_it_holds_at_once(engine: str) -> None:
    messages = [(bytes([number % 256]) * 32, number, text_of(number * 5)) for number in range(1000)]
    sealed = expected(messages)
    assert aead.run_batch(engine, True, messages) == sealed
    assert aead.run_batch(engine, False, sealed_again(messages, sealed)) == [each[2] for each in messages]


@each_engine
def test_each_engine_takes_the_largest_packet(engine: str) -> None:
    message = (bytes(range(32)), 1, text_of(65_456))
    assert aead.run_batch(engine, True, [message]) == expected([message])


def chosen(**environment: str) -> tuple[str, str]:
    """By a process of its own: the engine, and why it is not IPsec-MB."""
    script = "from whcore import aead; print(aead.engine(), aead.obstacle(), sep='|')"
    env = {**os.environ, **environment}
    answer = subprocess.run(
        [sys.executable, "-P", "-c", script], env=env, capture_output=True, text=True, check=True
    ).stdout
    engine, _, obstacle = answer.rstrip("\n").partition("|")
    return engine, obstacle


def test_the_fastest_engine_that_works_is_used_unless_the_user_says_otherwise() -> None:
    assert chosen() == (aead.engine(), aead.obstacle())
    assert aead.engine() == aead.engines()[-1]
    assert chosen(WH_AEAD="libsodium") == ("libsodium", aead.obstacle() or "unwanted")


def test_the_obstacle_says_whether_the_fast_engine_is_used() -> None:
    assert bool(aead.obstacle()) == ("IPsec-MB" not in aead.engines())
    assert list(aead.versions()) == list(aead.engines())


needs_ipsec_mb = pytest.mark.skipif("IPsec-MB" not in aead.engines(), reason="IPsec-MB is not here")


def library_version() -> int:
    """As the library has it: a byte each for minor and patch."""
    major, minor, patch = map(int, aead.versions()["IPsec-MB"].split(".")[:3])
    return major << 16 | minor << 8 | patch


def make_library(path: Path, version: int, functions: tuple[str, ...]) -> None:
    source = path.with_suffix(".c")
    aborting = "".join(f"void {name}(void) {{ abort(); }}\n" for name in functions)
    source.write_text(
        f"#include <stdlib.h>\nunsigned imb_get_version(void) {{ return {version}; }}\n{aborting}"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], check=True)


CALLED = ("imb_get_version_str", "alloc_mb_mgr", "free_mb_mgr", "init_mb_mgr_auto", "imb_get_errno")


@needs_ipsec_mb
@pytest.mark.parametrize(
    ("newer", "called"),
    [(-1, CALLED), (1 << 16, CALLED), (-(1 << 16), CALLED), (0, CALLED[1:])],
    ids=["older", "next major", "major before", "without a function"],
)
def test_a_library_that_is_older_or_of_another_kind_is_not_used(
    tmp_path: Path, newer: int, called: tuple[str, ...]
) -> None:
    name = find_library("IPSec_MB")
    assert name is not None
    make_library(tmp_path / name, library_version() + newer, called)
    assert chosen(LD_LIBRARY_PATH=str(tmp_path)) == ("libsodium", "other version")


@needs_ipsec_mb
def test_the_library_of_another_major_version_is_left_alone(tmp_path: Path) -> None:
    """It would lay out what we share with it in another way; this one says to be ours."""
    for other in (1, 2, 3):
        if other != library_version() >> 16:
            make_library(tmp_path / f"libIPSec_MB.so.{other}", library_version(), CALLED)
    assert chosen(LD_LIBRARY_PATH=str(tmp_path)) == ("IPsec-MB", "")


@needs_ipsec_mb
def test_the_engine_is_the_library_that_the_system_has(tmp_path: Path) -> None:
    assert f"libIPSec_MB.so.{library_version() >> 16}" == find_library("IPSec_MB")


@pytest.mark.skipif(find_library("IPSec_MB") is None, reason="the library is not here")
@pytest.mark.skipif("avx2" not in Path("/proc/cpuinfo").read_text(), reason="without AVX2 it is not used")
def test_the_engine_works_where_its_library_is() -> None:
    assert "IPsec-MB" in aead.engines()
