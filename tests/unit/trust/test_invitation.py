"""Invitations: what is said is read again, what is damaged is refused and told apart; aliases are derived."""

import base64
import hashlib
import hmac
import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secret_bytes import secret_bytes

from wh.errors import Code, InvitationError
from wh.trust.degrees import WORKBIT_MAX
from wh.trust.invitation import (
    ALIAS_WORKBIT_MAX,
    HEADER_LEN,
    MAX_BOOTSTRAPS,
    MAX_ENDPOINTS,
    MAX_GUIDES,
    MAX_RELAYS,
    Flag,
    Hint,
    Invitation,
    decode_untrusted,
    derive_alias,
    encode,
)
from wh.wire.address import is_usable, pack
from wh.wire.public_key import is_public_key
from whcore.keys import SecretKey, encode_key, workbit

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors/invitations.json").read_text(encoding="utf-8")
)
SERVER = bytes.fromhex("09") + bytes(31)
SEED = bytes(range(16))
NOW = 1_700_000_000
PLAIN = Invitation(SERVER, SEED)
FULL = Invitation(
    SERVER,
    SEED,
    expiry=NOW,
    flags=Flag.STREAM,
    endpoints=(pack("192.0.2.1", 62096), pack("2001:db8::1", 1)),
    relays=((SERVER, pack("198.51.100.1", 2)),),
    bootstraps=((SERVER, pack("2001:db8::2", 3)),),
    network_name="home-1",
    namespace="family",
    workbit=9,
    network_secret=bytes(range(32)),
)
deterministic = settings(derandomize=True, deadline=None)

keys = st.binary(min_size=32, max_size=32).filter(is_public_key)
v4 = st.tuples(st.ip_addresses(v=4), st.integers(1, 0xFFFF)).map(lambda each: pack(*each))
v6 = st.tuples(st.ip_addresses(v=6), st.integers(1, 0xFFFF)).map(lambda each: pack(*each))
addresses = (v4 | v6).filter(lambda address: is_usable(address, allow_loopback=True))
contacts = st.tuples(keys, addresses)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", fullmatch=True)
namespaces = st.text(
    st.characters(categories=("L", "N", "P", "S"), exclude_characters="#"), min_size=1
).filter(lambda text: len(text.encode()) <= 255)
subnets = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
).map(lambda each: ip_network(each, strict=False))
invitations = st.builds(
    Invitation,
    server_key=keys,
    seed=st.binary(min_size=16, max_size=16),
    expiry=st.integers(0, 0xFFFF_FFFF),
    flags=st.integers(0, 15),
    endpoints=st.lists(addresses, max_size=MAX_ENDPOINTS).map(tuple),
    relays=st.lists(contacts, max_size=MAX_RELAYS).map(tuple),
    bootstraps=st.lists(contacts, max_size=MAX_BOOTSTRAPS).map(tuple),
    network_name=st.none() | names,
    namespace=namespaces,
    workbit=st.integers(0, WORKBIT_MAX),
    network_secret=st.none() | st.binary(min_size=32, max_size=32),
    subnet=st.none() | subnets,
    guides=st.lists(contacts, max_size=MAX_GUIDES).map(tuple),
)


def text_of(body: bytes) -> str:
    """An invitation of any content whose checksum holds."""
    checksum = hashlib.blake2s(body, digest_size=4).digest()
    return "wh2" + base64.b32encode(body + checksum).decode().rstrip("=").lower()


def body_of(*hints: tuple[int, bytes], head: int = 0x10, server: bytes = SERVER) -> bytes:
    fixed = bytes([head]) + server + SEED + bytes(4)
    return fixed + b"".join(bytes([kind, len(value)]) + value for kind, value in hints)


def refusal(text: str) -> InvitationError:
    with pytest.raises(InvitationError) as caught:
        decode_untrusted(text)
    return caught.value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["what"])
def test_texts_stay_readable(vector: dict[str, Any]):
    invitation = decode_untrusted(vector["text"])
    assert encode_key(invitation.server_key) == vector["server_key"]
    assert encode_key(invitation.alias_secret().public_key) == vector["alias"]
    assert (invitation.expiry, invitation.workbit) == (vector["expiry"], vector["workbit"])
    assert (invitation.network_name, invitation.namespace) == (vector["name"], vector["namespace"])


@given(invitations)
@deterministic
def test_what_is_encoded_is_read_again(invitation: Invitation):
    text = encode(invitation)
    assert decode_untrusted(text) == invitation
    assert decode_untrusted(f" {text[:20].upper()}\n\t{text[20:]}\r\n") == invitation


@given(invitations, st.data())
@deterministic
def test_a_changed_character_is_refused(invitation: Invitation, data: st.DataObject):
    text = encode(invitation)
    at = data.draw(st.integers(0, len(text) - 1))
    wrong = data.draw(
        st.characters(codec="utf-8").filter(lambda c: c.lower() != text[at] and not c.isspace())
    )
    with pytest.raises(InvitationError):
        decode_untrusted(text[:at] + wrong + text[at + 1 :])


def test_every_single_mistake_is_refused():
    text = encode(FULL)
    for at in range(3, len(text)):
        for wrong in "abcdefghijklmnopqrstuvwxyz234567":
            if wrong != text[at]:
                code = refusal(text[:at] + wrong + text[at + 1 :]).code
                assert code in (Code.INVITATION_MISTYPED, Code.INVITATION_TRUNCATED)


@given(st.text() | st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567").map("wh2".__add__))
@deterministic
def test_no_text_does_more_than_be_refused(text: str):
    refusal(text)


@given(st.binary(max_size=300))
@deterministic
def test_no_hints_do_more_than_be_refused(hints: bytes):
    try:
        decode_untrusted(text_of(body_of() + hints))
    except InvitationError as error:
        assert error.code in (Code.INVITATION_MALFORMED, Code.INVITATION_EXCESSIVE)


@pytest.mark.parametrize("left_out", range(1, 60))
def test_an_invitation_that_is_cut_off_is_told_from_a_mistyped_one(left_out: int):
    text = encode(Invitation(SERVER, SEED, network_secret=bytes(32)))
    error = refusal(text[:-left_out])
    # Where the cut happens to fall between hints, nothing tells the two apart.
    last_hint = (2 + 32) * 8 / 5
    assert error.code == Code.INVITATION_TRUNCATED or abs(left_out - last_hint) < 3
    assert error.hint


def test_two_letters_that_changed_places_are_a_mistake():
    text = encode(PLAIN)
    at = next(at for at in range(60, len(text)) if text[at] != text[at + 1])
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    assert refusal(swapped).code == Code.INVITATION_MISTYPED


def test_characters_that_none_has_are_shown():
    error = refusal("wh2abc0def")
    assert error.code == Code.INVITATION_MISTYPED
    assert "character 7" in str(error)


@pytest.mark.parametrize("text", [text_of(body_of(head=0x20)), "wh3" + encode(PLAIN)[3:]])
def test_another_version_is_told(text: str):
    assert refusal(text).code == Code.INVITATION_VERSION


@pytest.mark.parametrize(
    "text", ["", "hello", "wh", "x" * 5000, "P17zMwXJFbBdJEn05RFIMADw9TX5_m2xgf31OgNKX3w"]
)
def test_other_text_is_no_invitation(text: str):
    assert refusal(text).code == Code.INVITATION_MALFORMED


@pytest.mark.parametrize(
    "hint",
    [
        (Hint.ENDPOINT4, bytes(6)),
        (Hint.ENDPOINT4, b"\xe0\0\0\1\0\1"),  # multicast
        (Hint.ENDPOINT4, b"\xc0\0\2\1\0"),
        (Hint.ENDPOINT6, pack("192.0.2.1", 1)),
        (Hint.RELAY, SERVER),
        (Hint.RELAY, bytes(32) + b"\xc0\0\2\1\0\1"),
        (Hint.BOOTSTRAP, bytes(50)),
        (Hint.NETWORK_NAME, b""),
        (Hint.NETWORK_NAME, b"../etc"),
        (Hint.NETWORK_NAME, b"-f"),
        (Hint.NETWORK_NAME, b"a b"),
        (Hint.NETWORK_NAME, b"a" * 64),
        (Hint.NETWORK_NAME, b"\xc3\xa4"),
        (Hint.NAMESPACE, b""),
        (Hint.NAMESPACE, b"a b"),
        (Hint.NAMESPACE, b"a\nsecret"),
        (Hint.NAMESPACE, b"a#b"),
        (Hint.NAMESPACE, b"\xff"),
        (Hint.WORKBIT, b""),
        (Hint.SUBNET, b""),
        (Hint.SUBNET, b"\x18\x0a\0\x2a\x01"),  # bits beyond the prefix
        (Hint.SUBNET, b"\x21\x0a\0\x2a\0"),
        (Hint.SUBNET, b"\x18\x0a\0\x2a"),
        (Hint.GUIDE, SERVER),
        (Hint.GUIDE, SERVER + b"\xe0\0\0\1\0\1"),
        (Hint.SECRET, bytes(31)),
    ],
)
def test_hostile_hints_are_refused(hint: tuple[int, bytes]):
    assert refusal(text_of(body_of(hint))).code == Code.INVITATION_MALFORMED


@pytest.mark.parametrize(
    ("hint", "most"),
    [
        ((Hint.ENDPOINT4, b"\xc0\0\2\1\0\1"), MAX_ENDPOINTS),
        ((Hint.RELAY, SERVER + b"\xc0\0\2\1\0\1"), MAX_RELAYS),
        ((Hint.BOOTSTRAP, SERVER + b"\xc0\0\2\1\0\1"), MAX_BOOTSTRAPS),
        ((Hint.GUIDE, SERVER + b"\xc0\0\2\1\0\1"), MAX_GUIDES),
        ((Hint.SUBNET, b"\x18\x0a\0\x2a\0"), 1),
        ((Hint.NETWORK_NAME, b"a"), 1),
        ((Hint.SECRET, bytes(32)), 1),
    ],
)
def test_hints_are_bounded(hint: tuple[int, bytes], most: int):
    decode_untrusted(text_of(body_of(*[hint] * most)))
    assert refusal(text_of(body_of(*[hint] * (most + 1)))).code == Code.INVITATION_MALFORMED


def test_hints_of_later_versions_are_skipped():
    text = text_of(body_of((200, b"anything"), (Hint.NETWORK_NAME, b"home"), (0, b"")))
    assert decode_untrusted(text).network_name == "home"


@pytest.mark.parametrize("server", [bytes(32), b"\xff" * 32])
def test_a_server_that_nobody_can_be_is_refused(server: bytes):
    assert refusal(text_of(body_of(server=server))).code == Code.INVITATION_MALFORMED


def test_a_body_that_is_too_short_is_refused():
    assert refusal(text_of(body_of()[: HEADER_LEN - 1])).code == Code.INVITATION_MALFORMED


@pytest.mark.parametrize(
    "invitation",
    [
        Invitation(SERVER, b"short"),
        Invitation(SERVER, None),
        Invitation(SERVER, SEED, expiry=1 << 32),
        Invitation(SERVER, SEED, network_name="not a name"),
        Invitation(SERVER, SEED, endpoints=(pack("192.0.2.1", 1),) * (MAX_ENDPOINTS + 1)),
        Invitation(bytes(32), SEED),
    ],
)
def test_what_nobody_could_read_is_not_written(invitation: Invitation):
    with pytest.raises(ValueError):
        encode(invitation)


@pytest.mark.parametrize("bits", [21, 24, 64, 65, 255])
def test_an_invitation_asks_for_no_more_work_than_takes_seconds(bits: int):
    error = refusal(text_of(body_of((Hint.WORKBIT, bytes([bits])))))
    assert error.code == "WH149"
    assert error.hint
    with pytest.raises(ValueError):
        encode(Invitation(SERVER, SEED, workbit=bits))
    assert decode_untrusted(text_of(body_of((Hint.WORKBIT, b"\x14")))).workbit == 20


# The original's


def test_an_invitation_of_2018_is_read():
    alias = SecretKey.generate()
    secret = secret_bytes(alias)
    text = base64.urlsafe_b64encode(SERVER + secret).decode().rstrip("=")
    assert len(text) == 86
    invitation = decode_untrusted(text + "\n")
    assert invitation.server_key == SERVER
    assert invitation.alias_secret().public_key == alias.public_key


@pytest.mark.parametrize("data", [bytes(64), SERVER + bytes(32), b"\xff" * 64])
def test_an_invitation_of_2018_with_impossible_keys_is_refused(data: bytes):
    assert refusal(base64.urlsafe_b64encode(data).decode().rstrip("=")).code == Code.INVITATION_MALFORMED


def test_an_invitation_of_2018_with_bits_left_over_is_refused():
    text = base64.urlsafe_b64encode(SERVER + SEED * 2).decode().rstrip("=")
    refusal(text[:-1] + chr(ord(text[-1]) + 1))


# Use


def test_an_expired_invitation_is_told():
    FULL.check_usable(now_unix=NOW - 1)
    PLAIN.check_usable(now_unix=NOW)
    with pytest.raises(InvitationError) as caught:
        FULL.check_usable(now_unix=NOW)
    assert caught.value.code == Code.INVITATION_EXPIRED


def test_an_invitation_for_oneself_is_told():
    PLAIN.check_usable(now_unix=0, own_key=bytes(32))
    with pytest.raises(InvitationError) as caught:
        PLAIN.check_usable(now_unix=0, own_key=SERVER)
    assert caught.value.code == Code.INVITATION_OWN


def test_secrets_do_not_show():
    shown = repr(FULL)
    assert "seed" not in shown
    assert "secret" not in shown


@pytest.mark.parametrize("bits", [0, 5, 8, 30])
def test_an_alias_is_hkdf_of_the_seed_with_the_first_counter_that_works(bits: int):
    """RFC 5869 with BLAKE2s, from the standard library."""
    alias = derive_alias(SEED, "family", bits)
    wanted = min(bits, ALIAS_WORKBIT_MAX)
    extracted = hmac.digest(bytes(32), SEED, hashlib.blake2s)
    for counter in range(1 << 20):
        info = b"wirehub alias key" + counter.to_bytes(4, "little")
        expanded = hmac.digest(extracted, info + b"\1", hashlib.blake2s)
        public = SecretKey.from_text(encode_key(expanded)).public_key
        if workbit(public, b"family") >= wanted:
            break
    assert alias.public_key == public
