"""What the message schema promises about the wire."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from wh.wire import codec
from wh.wire.address import pack
from wh.wire.candidates import Candidate, NatProfile
from wh.wire.errors import BadMessage
from wh.wire.messages import (
    ANSWERS,
    Answer,
    Auth,
    Authed,
    Capability,
    Challenge,
    Close,
    Contact,
    Dialback,
    Find,
    Go,
    Leaving,
    Message,
    Nodes,
    Nominate,
    Offer,
    Open,
    Opened,
    Ping,
    Pong,
    Probe,
    ProbeAck,
    Put,
    PutAck,
    Reserve,
    Reserved,
    Response,
    Reveal,
    Subnet,
)

KEY = b"\x09" + bytes(31)
ADDRESS = pack("192.0.2.1", 62096)
ADDRESS_V6 = pack("2001:db8::1", 62096)
NONCE = b"8 bytes."

EXAMPLES: list[tuple[Message, list[object]]] = [
    (Ping(7, 1, 9, NONCE, Capability.SERVER, 5), [1, 7, 1, 9, NONCE, 1, 5]),
    (Pong(7, ADDRESS, 3, 50, 2**63, NONCE), [2, 7, ADDRESS, 3, 50, 2**63, NONCE, 0, False]),
    (Find(7, KEY, 5, 16, 3), [3, 7, KEY, 5, 16, 3]),
    (
        Nodes(7, b"token", (Contact(KEY, ADDRESS, 1), Contact(KEY, ADDRESS_V6, 3)), b"r"),
        [4, 7, b"token", b"\x01" + KEY + ADDRESS[12:] + b"\x83" + KEY + ADDRESS_V6, b"r"],
    ),
    (Nodes(7, b"", (), None), [4, 7, b"", b"", None]),
    (Put(7, b"token", b"record"), [5, 7, b"token", b"record"]),
    (PutAck(7, 0, 2**64 - 1, 3600), [6, 7, 0, 2**64 - 1, 3600]),
    (Challenge(7, NONCE, 1), [7, 7, NONCE, 1]),
    (Response(7, NONCE), [8, 7, NONCE]),
    (Dialback(7, ADDRESS, NONCE), [9, 7, ADDRESS, NONCE]),
    (Reserve(7, 3600), [10, 7, 3600]),
    (Reserved(7, 0, 3600, 10**6, 10**9), [11, 7, 0, 3600, 10**6, 10**9]),
    (Open(7, KEY), [12, 7, KEY]),
    (Opened(7, 0, 2**31 - 1, KEY, ADDRESS), [13, 7, 0, 2**31 - 1, KEY, ADDRESS]),
    (Close(7, 5, 1), [15, 7, 5, 1]),
    (Offer(7, 9, 1, NatProfile(2, 3), (Candidate(ADDRESS, 2),)), [20, 7, 9, 1, [2, 3, 0], [[ADDRESS, 2]]]),
    (Answer(7, 9, 1, NatProfile(0, 0), ()), [21, 7, 9, 1, [0, 0, 0], []]),
    (Go(7, 9, 1, 40), [22, 7, 9, 1, 40]),
    (Probe(7, 1, 2, bytes(3)), [23, 7, 1, 2, bytes(3)]),
    (ProbeAck(7, 1, 2, b""), [24, 7, 1, 2, b""]),
    (Nominate(7, 2, 0), [25, 7, 2, 0]),
    (Auth(7, KEY, b"c" * 32), [30, 7, KEY, b"c" * 32, bytes(32)]),
    (Reveal(7, KEY, b"n" * 32), [32, 7, KEY, b"n" * 32]),
    (
        Authed(7, KEY, 0, "b-1", (b"\x0a\0\0\3",), Subnet(b"\x0a\0\0\0", 24), "a", (bytes(16),)),
        [31, 7, KEY, 0, "b-1", [b"\x0a\0\0\3"], [b"\x0a\0\0\0", 24], "a", [bytes(16)], b""],
    ),
    (Authed(7, KEY, 2), [31, 7, KEY, 2, "", [], None, "", [], b""]),
    (Authed(7, KEY, 5, nonce=b"n" * 32), [31, 7, KEY, 5, "", [], None, "", [], b"n" * 32]),
    (Leaving(), [40, 0]),
]
"""Messages beside the arrays that docs/protocol.md section 3 gives them."""


def test_there_is_an_example_of_every_message():
    assert {type(message) for message, _ in EXAMPLES} == set(get_args(Message))


@pytest.mark.parametrize(("message", "array"), EXAMPLES)
def test_the_wire_form_is_the_array_of_the_protocol(message, array):
    assert msgspec.msgpack.decode(codec.encode(message)) == array
    assert codec.decode_untrusted(msgspec.msgpack.encode(array)) == message


@pytest.mark.parametrize(("message", "array"), EXAMPLES)
def test_fields_that_a_later_version_appends_are_ignored(message, array):
    # An element of the last defaults, then three that nobody has defined yet.
    assert codec.decode_untrusted(msgspec.msgpack.encode([*array, [1, {"a": b"b"}], None, "text"])) == message


def test_older_peers_may_leave_out_what_was_appended():
    assert codec.decode_untrusted(msgspec.msgpack.encode([1, 7, 0, 0, NONCE])) == Ping(7, 0, 0, NONCE, 0)
    older_pong = codec.decode_untrusted(msgspec.msgpack.encode([2, 7, ADDRESS, 0, 0, 0]))
    assert older_pong == Pong(7, ADDRESS, 0, 0, 0, bytes(8))


@pytest.mark.parametrize(
    "array",
    [
        [1, -1, 0, 0, NONCE],
        [1, 2**32, 0, 0, NONCE],
        [1, 7, 256, 0, NONCE],
        [1, 7, 0, 65536, NONCE],
        [1, 7, 0, 0, NONCE + b"!"],
        [1, 7, 0, 0, NONCE[1:]],
        [1, 7, 0, 0, "8 bytes."],
        [1, 7, 0, 0],
        [1],
        [2, 7, ADDRESS[1:], 0, 0, 0],
        [2, 7, ADDRESS, 0, 0, -1],
        [3, 7, KEY + b"!", 0, 0, 0],
        [3, 7, KEY[1:], 0, 0, 0],
        [4, 7, bytes(17), [], None],
        [4, 7, b"", [[KEY, ADDRESS, 1]] * 17, None],
        [4, 7, b"", [[KEY, ADDRESS[1:], 1]], None],
        [4, 7, b"", [[KEY]], None],
        [4, 7, b"", [], bytes(513)],
        [5, 7, bytes(17), b""],
        [5, 7, b"", bytes(513)],
        [23, 7, 0, 0, bytes(1025)],
        ["1", 7, 0, 0, NONCE],
        {"type": 1},
        1,
        None,
        [],
    ],
)
def test_values_out_of_bounds_are_malformed(array):
    with pytest.raises(BadMessage):
        codec.decode_untrusted(msgspec.msgpack.encode(array))


def test_unknown_flags_do_not_grow_the_flag_class():
    """IntFlag remembers every combination it was called with: a peer could send 65,536 of them."""
    before = len(Capability._value2member_map_)
    for flags in range(0, 0xFFFF, 257):
        ping = codec.decode_untrusted(msgspec.msgpack.encode([1, 7, 0, 0, NONCE, flags]))
        assert isinstance(ping, Ping)
        assert bool(ping.capabilities & Capability.SERVER) == flags % 2
    assert len(Capability._value2member_map_) <= max(before, 4)  # what two known bits make


def test_every_answer_is_a_message_of_its_own():
    assert set(ANSWERS) | set(ANSWERS.values()) <= set(get_args(Message))
    assert not set(ANSWERS) & set(ANSWERS.values())
