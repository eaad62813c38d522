"""Keys: text forms, vectors of the 2018 WireHub, public key checks, the search, and secrecy."""

import base64
import copy
import hashlib
import ipaddress
import json
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from whcore import keys
from whcore.errors import InvalidKey, SystemFailure
from whcore.keys import SecretKey

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors/wirehub_keys.json").read_text())
P = 2**255 - 19
deterministic = settings(derandomize=True, deadline=None)
key_bytes = st.binary(min_size=32, max_size=32)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    yield read_end, write_end
    for fd in (read_end, write_end):
        try:
            os.close(fd)
        except OSError:
            continue


def read_text(text: bytes) -> SecretKey:
    """SecretKey.read_fd of a pipe that holds text."""
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, text)
        os.close(write_end)
        return SecretKey.read_fd(read_end)
    finally:
        os.close(read_end)


def written_text(key: SecretKey, *, newline: bool = True) -> bytes:
    read_end, write_end = os.pipe()
    try:
        key.write_fd(write_end, newline=newline)
        os.close(write_end)
        return os.read(read_end, 100)
    finally:
        os.close(read_end)


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["public_wh"][:8])
def test_keys_are_what_the_2018_wirehub_computed(vector: dict[str, Any]) -> None:
    secret = SecretKey.from_text(vector["private_wg"])
    public = secret.public_key
    assert (keys.encode_key(public), keys.encode_key_wg(public)) == (vector["public_wh"], vector["public_wg"])
    assert keys.decode_key(vector["public_wh"]) == keys.decode_key(vector["public_wg"]) == public
    assert written_text(secret).decode() == vector["private_wg"] + "\n"
    keys.check_public_key(public)
    for namespace, bits in vector["workbit"].items():
        assert keys.workbit(public, namespace.encode()) == bits
    for namespace, address in vector["orchid_v1"].items():
        computed = ipaddress.IPv6Address(keys.orchid_v1(public, namespace.encode()))
        assert computed == ipaddress.IPv6Address(address)


def test_bucket_index_is_the_bid_of_the_2018_wirehub() -> None:
    for a, b, expected in VECTORS["bucket_index"]:
        assert keys.bucket_index(keys.decode_key(a), keys.decode_key(b)) == expected


@deterministic
@given(a=key_bytes, flipped=st.integers(0, 255))
def test_bucket_index_counts_the_common_prefix(a: bytes, flipped: int) -> None:
    b = (int.from_bytes(a, "big") ^ 1 << (255 - flipped)).to_bytes(32, "big")
    assert keys.bucket_index(a, b) == keys.bucket_index(b, a) == flipped + 1
    assert keys.bucket_index(a, a) == 256


@deterministic
@given(key=key_bytes, namespace=st.binary(max_size=300))
def test_workbit_counts_zero_bits_of_the_hash(key: bytes, namespace: bytes) -> None:
    digest = hashlib.blake2b(key + namespace, digest_size=32).digest()
    assert keys.workbit(key, namespace) == 256 - int.from_bytes(digest, "big").bit_length()


@deterministic
@given(key=key_bytes, namespace=st.binary(max_size=255))
def test_orchid_is_rfc_7343_with_our_context(key: bytes, namespace: bytes) -> None:
    context = bytes.fromhex("700bb2628b5b2b37585930d514657ab2")
    digest = hashlib.sha256(context + bytes([len(namespace)]) + namespace + key).digest()
    middle = int.from_bytes(digest, "big") >> 80 & (1 << 96) - 1
    address = ipaddress.IPv6Address(keys.orchid(key, namespace))
    assert address == ipaddress.IPv6Address(0x2001_0021 << 96 | middle)
    assert address in ipaddress.IPv6Network("2001:20::/28")


def test_orchid_refuses_a_namespace_whose_length_has_no_byte() -> None:
    with pytest.raises(ValueError, match="255"):
        keys.orchid(bytes(32), bytes(256))


@deterministic
@given(key=key_bytes)
def test_text_forms_are_base64_and_come_back(key: bytes) -> None:
    wirehub, wireguard = keys.encode_key(key), keys.encode_key_wg(key)
    assert wirehub == base64.urlsafe_b64encode(key).decode().rstrip("=")
    assert wireguard == base64.b64encode(key).decode()
    for text in (wirehub, wirehub + "=", wireguard, wireguard[:-1]):
        assert keys.decode_key(text) == key


@deterministic
@given(key=key_bytes, position=st.integers(0, 42), wrong=st.characters())
def test_one_wrong_character_is_refused_without_being_repeated(key: bytes, position: int, wrong: str) -> None:
    text = keys.encode_key(key)
    assume(wrong not in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")
    broken = text[:position] + wrong + text[position + 1 :]
    for decode in (keys.decode_key, SecretKey.from_text):
        with pytest.raises(InvalidKey) as refused:
            decode(broken)
        assert not any(broken[i : i + 8] in str(refused.value) for i in range(36))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "^0 characters"),
        ("A" * 42, "^42 characters"),
        ("A" * 44, "^44 characters"),
        ("A" * 43 + "==", "^45 characters"),
        ("B" * 10 + "!" + "B" * 32, "^character 11 "),
        ("B" * 5 + "+" + "B" * 5 + "_" + "B" * 30 + "A", "^character 12 "),
        ("B" * 43, "last character"),
        ("A\u200b" + "A" * 42, "^character 2 is U.200B, which cannot be seen"),
        ("é" * 43, "U.00E9"),
        ("\udcff" * 43, "U.DCFF"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(text: str, reason: str) -> None:
    for decode in (keys.decode_key, SecretKey.from_text):
        with pytest.raises(InvalidKey, match=reason):
            decode(text)


def order_eight() -> list[int]:
    """u of the points of order 8: doubling them gives u = 1, so (u^2 - 1)^2 = 4 u (u^2 + 486662 u + 1)."""
    # Divided by u^2, with w = u + 1/u: w^2 - 4 w - 4 (1 + 486662) = 0.
    root = square_root(4 + 4 * 486663)
    found = []
    for w in ((2 + root) % P, (2 - root) % P):
        inner = square_root(w * w - 4)
        if inner is not None:
            found += [(w + inner) * pow(2, -1, P) % P, (w - inner) * pow(2, -1, P) % P]
    return found


def square_root(square: int) -> int | None:
    root = pow(square, (P + 3) // 8, P)
    for candidate in (root, root * pow(2, (P - 1) // 4, P) % P):
        if candidate * candidate % P == square % P:
            return candidate
    return None


def test_low_order_public_keys_are_refused() -> None:
    eighth = order_eight()
    assert len(eighth) == 2
    for u in (0, 1, P - 1, *eighth):
        with pytest.raises(InvalidKey, match="low order"):
            keys.check_public_key(u.to_bytes(32, "little"))


@pytest.mark.parametrize("u", [P, P + 1, P + 18, 2**255 - 1, 2**255 + 9, 2**256 - 1])
def test_non_canonical_public_keys_are_refused(u: int) -> None:
    with pytest.raises(InvalidKey, match="not below"):
        keys.check_public_key(u.to_bytes(32, "little"))


@pytest.mark.parametrize("u", [2, 9, P - 2, 2**254, P - 2**30])
def test_other_numbers_are_accepted_as_public_keys(u: int) -> None:
    keys.check_public_key(u.to_bytes(32, "little"))


def test_wrong_lengths_are_refused_everywhere() -> None:
    for n in (0, 31, 33):
        for call in (keys.check_public_key, keys.encode_key, keys.encode_key_wg):
            with pytest.raises(InvalidKey):
                call(bytes(n))
        for call_with_namespace in (keys.workbit, keys.orchid, keys.orchid_v1):
            with pytest.raises(InvalidKey):
                call_with_namespace(bytes(n), b"public")
        with pytest.raises(InvalidKey):
            keys.bucket_index(bytes(32), bytes(n))


@deterministic
@given(secret=key_bytes)
def test_public_key_agrees_with_cryptography(secret: bytes) -> None:
    assume(any(secret))
    expected = X25519PrivateKey.from_private_bytes(secret).public_key()
    key = SecretKey.from_text(base64.b64encode(secret).decode())
    assert key.public_key == key.derive_public() == expected.public_bytes(Encoding.Raw, PublicFormat.Raw)


def test_a_key_is_written_as_it_was_read_because_it_may_be_a_preshared_one() -> None:
    text = base64.b64encode(b"\xff" * 32)
    assert written_text(read_text(text), newline=False) == text


def test_generated_keys_differ_and_are_clamped() -> None:
    made = [SecretKey.generate() for _ in range(50)]
    assert len({key.public_key for key in made}) == 50
    for key in made:
        secret = base64.b64decode(written_text(key))
        assert (secret[0] & 7, secret[31] & 0xC0) == (0, 0x40)


@pytest.mark.parametrize("form", ["{}", "{}\n", "\r\n\t {} \v\f\n\n"])
@pytest.mark.parametrize("encode", [keys.encode_key, keys.encode_key_wg])
def test_read_fd_takes_either_alphabet_within_white_space(form: str, encode: Any) -> None:
    secret = bytes(range(200, 232))
    key = read_text(form.format(encode(secret)).encode())
    assert key.public_key == SecretKey.from_text(encode(secret)).public_key


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"x", b"A" * 43 + b"\0", b"\0" * 43, b"A" * 43, b"\xff" * 44, b" " * 5000, b"Q" * 100_000],
    ids=lambda text: f"{text[:4]!r} x {len(text)}",
)
def test_read_fd_refuses_what_is_no_key(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(text)
    with (tmp_path / "key").open("rb") as file, pytest.raises(InvalidKey):
        SecretKey.read_fd(file.fileno())


def test_read_fd_joins_what_a_pipe_delivers_in_pieces(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    text = VECTORS["keys"][0]["private_wg"].encode()

    def deliver() -> None:
        for i in range(0, len(text), 5):
            os.write(write_end, text[i : i + 5])
        os.close(write_end)

    thread = threading.Thread(target=deliver)
    thread.start()
    key = SecretKey.read_fd(read_end)
    thread.join()
    assert keys.encode_key_wg(key.public_key) == VECTORS["keys"][0]["public_wg"]


def test_bad_fds_are_os_errors() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        SecretKey.read_fd(-1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        SecretKey.generate().write_fd(-1)


def test_write_fd_can_leave_out_the_newline() -> None:
    key = SecretKey.generate()
    assert written_text(key) == written_text(key, newline=False) + b"\n"


def test_a_secret_key_shows_and_copies_nothing_of_itself() -> None:
    key = SecretKey.from_text(VECTORS["keys"][0]["private_wg"])
    for text in (repr(key), str(key), f"{key}"):
        assert VECTORS["keys"][0]["private_wg"][:6] not in text
        assert VECTORS["keys"][0]["public_wh"] in text
    for leak in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            leak(key)
    with pytest.raises(TypeError):
        SecretKey()
    with pytest.raises(TypeError):
        memoryview(key)  # type: ignore[arg-type]


def test_a_closed_key_refuses_every_use() -> None:
    key = SecretKey.generate()
    public_key = key.public_key
    key.close()
    key.close()
    for use in (key.derive_public, lambda: key.sign(b""), lambda: key.write_fd(1)):
        with pytest.raises(SystemFailure, match="closed"):
            use()
    assert key.public_key == public_key
    assert "SecretKey" in repr(key)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("wanted", [0, 1, 12])
def test_search_finds_an_ordinary_key_with_enough_workbits(wanted: int, threads: int) -> None:
    key = SecretKey.search(wanted, b"search", threads=threads, progress=lambda tried, seconds: seconds > 20)
    assert keys.workbit(key.public_key, b"search") >= wanted
    secret = base64.b64decode(written_text(key))
    expected = X25519PrivateKey.from_private_bytes(secret).public_key()
    assert key.public_key == expected.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert (secret[0] & 7, secret[31] & 0xC0) == (0, 0x40)


def test_searches_share_nothing() -> None:
    assert len({SecretKey.search(1, b"", threads=2).public_key for _ in range(20)}) == 20


def test_search_reports_progress_and_can_be_cancelled() -> None:
    reports: list[tuple[int, float]] = []

    def progress(tried: int, seconds: float) -> bool:
        reports.append((tried, seconds))
        return len(reports) == 2

    with pytest.raises(InterruptedError):
        SecretKey.search(200, b"never", progress=progress)
    assert 0 < reports[0][0] < reports[1][0]
    assert 0 < reports[0][1] < reports[1][1]
    assert not [thread for thread in threading.enumerate() if thread.name == "wh-keysearch"]


def test_an_exception_in_progress_ends_the_search() -> None:
    def progress(tried: int, seconds: float) -> bool:
        raise LookupError("from progress")

    with pytest.raises(LookupError, match="from progress"):
        SecretKey.search(200, b"never", progress=progress)
    assert not [thread for thread in threading.enumerate() if thread.name == "wh-keysearch"]


def test_a_signal_ends_the_search() -> None:
    def handler(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            SecretKey.search(
                200, b"never", progress=lambda tried, seconds: os.kill(os.getpid(), signal.SIGUSR1)
            )
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert not [thread for thread in threading.enumerate() if thread.name == "wh-keysearch"]


@pytest.mark.parametrize("wanted", [-1, 257])
def test_search_refuses_impossible_workbits(wanted: int) -> None:
    with pytest.raises(ValueError, match="workbit"):
        SecretKey.search(wanted, b"")
