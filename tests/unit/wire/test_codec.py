"""The codec against hostile bytes."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wh.wire import codec
from wh.wire.address import pack
from wh.wire.errors import BadMessage
from wh.wire.messages import (
    MAX_CONTACTS,
    Auth,
    Authed,
    AuthStatus,
    Contact,
    Dialback,
    Find,
    Message,
    Nodes,
    Ping,
    Pong,
    Probe,
    Put,
    PutAck,
    Reveal,
    Subnet,
)

KNOWN_TYPES = {message.__struct_config__.tag for message in get_args(Message)}

deterministic = settings(derandomize=True, deadline=None, max_examples=400)

KEY = b"\x09" + bytes(31)
PUBLIC = pack("192.0.2.1", 62096)
P = 2**255 - 19

uint = st.integers
nonces = st.binary(min_size=8, max_size=8)
proofs = st.binary(min_size=32, max_size=32)
keys = st.binary(min_size=31, max_size=31).map(
    lambda head: head + b"\x01"
)  # below p; low order has odds of 2**-248
addresses = st.builds(pack, st.ip_addresses(v=4, network="198.51.100.0/24"), uint(1, 0xFFFF))
addresses_v6 = st.builds(pack, st.ip_addresses(v=6, network="2001:db8::/32"), uint(1, 0xFFFF))
hostnames = st.from_regex(r"([A-Za-z0-9_][A-Za-z0-9_-]{0,62})?", fullmatch=True)
overlay_addresses = st.lists(st.ip_addresses().map(lambda ip: ip.packed), max_size=4).map(tuple)
messages = st.one_of(
    st.builds(Ping, uint(0, 2**32 - 1), uint(0, 255), uint(0, 65535), nonces, uint(0, 65535)),
    st.builds(Pong, uint(0, 2**32 - 1), addresses, uint(0, 65535), uint(0, 255), uint(0, 2**64 - 1), nonces),
    st.builds(Find, uint(0, 2**32 - 1), keys, uint(0, 2**64 - 1), uint(0, 255), uint(0, 255)),
    st.builds(
        Nodes,
        uint(0, 2**32 - 1),
        st.binary(max_size=16),
        st.lists(st.builds(Contact, keys, addresses | addresses_v6, uint(0, 127)), max_size=8).map(tuple),
        st.none() | st.binary(max_size=512),
    ),
    st.builds(Put, uint(0, 2**32 - 1), st.binary(max_size=16), st.binary(max_size=512)),
    st.builds(PutAck, uint(0, 2**32 - 1), uint(0, 255), uint(0, 2**64 - 1), uint(0, 65535)),
    st.builds(Auth, uint(0, 2**32 - 1), keys, proofs, proofs),
    st.builds(Reveal, uint(0, 2**32 - 1), keys, proofs),
    st.builds(Authed, uint(0, 2**32 - 1), keys, st.just(AuthStatus.PROVED), nonce=proofs),
    st.builds(
        Authed,
        uint(0, 2**32 - 1),
        keys,
        uint(0, 255).filter(lambda status: status != AuthStatus.PROVED),
        hostnames,
        overlay_addresses,
        st.none() | st.builds(Subnet, st.binary(min_size=16, max_size=16), uint(0, 128)),
        hostnames,
        overlay_addresses,
    ),
    st.builds(Dialback, uint(0, 2**32 - 1), addresses, nonces),
    st.builds(Probe, uint(0, 2**32 - 1), uint(0, 2**32 - 1), uint(0, 2**32 - 1), st.binary(max_size=1024)),
)


def decode_or_bad(data: bytes) -> Message | None:
    try:
        return codec.decode_untrusted(data)
    except BadMessage:
        return None


@deterministic
@given(messages)
def test_what_is_encoded_is_decoded(message):
    assert codec.decode_untrusted(codec.encode(message)) == message


@deterministic
@given(st.binary(max_size=1300))
@example(b"\xdd\xff\xff\xff\xff\x01\x01")
@example(b"\x95\x05\x07\xc6\xff\xff\xff\xff")
def test_random_bytes_raise_nothing_but_bad_message(data):
    decode_or_bad(data)


@pytest.mark.parametrize("head", [b"", b"\x93\x28\x00", b"\x93\x63\x01", b"\x95\x04\x01\xc4\x00"])
def test_deep_nesting_raises_nothing_but_bad_message(head):
    """Not under Hypothesis, which raises the recursion limit."""
    decode_or_bad(head + b"\x91" * (codec.MAX_MESSAGE_LEN - len(head) - 1) + b"\xc0")


@deterministic
@given(messages, st.data())
def test_damaged_messages_raise_nothing_but_bad_message(message, data):
    encoded = bytearray(codec.encode(message))
    for _ in range(data.draw(uint(1, 4))):
        encoded[data.draw(uint(0, len(encoded) - 1))] = data.draw(uint(0, 255))
    cut = data.draw(uint(0, len(encoded)))
    decoded = decode_or_bad(bytes(encoded[:cut]))
    if decoded is not None:
        assert codec.decode_untrusted(codec.encode(decoded)) == decoded


@deterministic
@given(uint(0, 2**32 - 1).filter(lambda tag: tag not in KNOWN_TYPES))
def test_unknown_types_are_no_error(tag):
    assert codec.decode_untrusted(msgspec.msgpack.encode([tag, 7, "a", [1, 2], {"b": None}])) is None


def test_a_message_longer_than_the_limit_is_neither_made_nor_read():
    too_long = Nodes(1, bytes(16), tuple(Contact(KEY, PUBLIC, 1) for _ in range(16)), bytes(512))
    with pytest.raises(ValueError, match="Nodes"):
        codec.encode(too_long)
    with pytest.raises(BadMessage, match="limit"):
        codec.decode_untrusted(msgspec.msgpack.encode([4, 1, bytes(16), bytes(16 * 39), bytes(512)]))


@pytest.mark.parametrize("v6", [False, True])
def test_nodes_have_room_for_k_contacts(v6):
    address = pack("2001:db8::1", 1) if v6 else PUBLIC
    nodes = Nodes(2**32 - 1, bytes(16), (Contact(KEY, address, 3),) * MAX_CONTACTS, None)
    assert codec.decode_untrusted(codec.encode(nodes)) == nodes


@pytest.mark.parametrize(
    "contacts",
    [b"\x01" + KEY, b"\x01" + KEY + bytes(5), b"\x81" + KEY + bytes(6), (b"\x01" + KEY + PUBLIC[12:]) * 21],
)
def test_contacts_that_are_cut_off_or_too_many_are_malformed(contacts):
    with pytest.raises(BadMessage):
        codec.decode_untrusted(msgspec.msgpack.encode([4, 1, b"", contacts, None]))


@pytest.mark.parametrize(
    "bad",
    [
        Contact(KEY, pack("192.0.2.1", 0)),
        Contact(KEY, pack("224.0.0.1", 1)),
        Contact(KEY, pack("255.255.255.255", 1)),
        Contact(KEY, pack("127.0.0.1", 1)),
        Contact(KEY, pack("::", 1)),
        Contact(KEY, pack("ff02::1", 1)),
        Contact(bytes(32), PUBLIC),
        Contact((1).to_bytes(32, "little"), PUBLIC),
        Contact((P - 1).to_bytes(32, "little"), PUBLIC),
        Contact(P.to_bytes(32, "little"), PUBLIC),
        Contact(b"\x09" + bytes(30) + b"\x80", PUBLIC),
    ],
)
def test_a_contact_that_nobody_can_be_is_left_out_alone(bad):
    good = Contact(KEY, PUBLIC, 1)
    decoded = codec.decode_untrusted(codec.encode(Nodes(1, b"", (good, bad, good), None)))
    assert decoded == Nodes(1, b"", (good, good), None)


def test_other_messages_with_an_unusable_address_are_malformed():
    for message in (Pong(1, pack("240.0.0.1", 1), 0, 0, 0), Dialback(1, pack("192.0.2.1", 0), bytes(8))):
        with pytest.raises(BadMessage, match="unusable"):
            codec.decode_untrusted(codec.encode(message))


def test_loopback_is_usable_where_the_caller_says_so():
    pong = Pong(1, pack("127.0.0.1", 1), 0, 0, 0)
    assert codec.decode_untrusted(codec.encode(pong), allow_loopback=True) == pong


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a b"},
        {"name": "-x"},
        {"name": "x\n"},
        {"name": "x" * 64},
        {"server_name": "a.b"},
        {"addresses": (bytes(5),)},
        {"addresses": (bytes(4),) * 5},
        {"server_addresses": (bytes(15),)},
        {"subnet": Subnet(bytes(4), 33)},
        {"subnet": Subnet(bytes(16), 129)},
        {"subnet": Subnet(bytes(8), 1)},
        {"nonce": bytes(32)},
        {"status": AuthStatus.PROVED},
        {"status": AuthStatus.PROVED, "nonce": bytes(31)},
        {"status": AuthStatus.PROVED, "nonce": bytes(33)},
    ],
)
def test_a_place_that_no_host_can_have_is_refused(changes):
    with pytest.raises(BadMessage):
        codec.decode_untrusted(msgspec.msgpack.encode(msgspec.structs.replace(Authed(1, KEY, 0), **changes)))
