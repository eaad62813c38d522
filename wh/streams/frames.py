"""Frames of a stream between two 0nc, over one TCP connection (docs/protocol.md section 11).

kind 1 | length 3, little-endian | length bytes. HELLO comes first, in both directions.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

VERSION = 1
HEADER_LEN = 4
MAX_DATA = 1 << 20
"""Bytes of a DATA frame. Larger ones save nothing any more."""

MAX_CONTROL = 1024
"""Bytes of any other frame."""

COUNT_LEN = 8
DIGEST_LEN = 32
TEXT_MAX = 200
"""Characters of another end's words that are shown."""


class Kind(IntEnum):
    HELLO = 0  # version 1, Terms 1, then what the connection is for: nothing for a stream, or a target
    DATA = 1
    EOF = 2  # no more data; how many bytes there were, 8
    ACK = 3  # all of it is written, and what it was written to is closed; how many bytes, 8
    FAILED = 4  # the sender of this ends the stream: Reason 1, then why, in UTF-8
    ENDED = 5  # the command behind the sender has ended with this status, 1: what comes now is dropped
    HAVE = 6  # the sender has so many bytes of the stream, 8, with this BLAKE2b, 32: go on behind them


class Terms(IntFlag):
    """What a side says of itself in its HELLO."""

    TAKES_NOTHING = 1  # the other need not send
    RESUMES = 2  # HAVE follows


class Reason(IntEnum):
    IO = 1  # what it reads from, or writes to, has failed
    STOPPED = 2  # somebody ended it
    REFUSED = 3  # the target is not allowed, or cannot be reached


class Have(NamedTuple):
    """The beginning of a stream, from an earlier one that broke."""

    total: int
    digest: bytes


class Failed(NamedTuple):
    reason: int
    text: str


class BadFrame(Exception):
    """The other end does not speak this protocol."""


class Header(NamedTuple):
    kind: Kind
    length: int


class Hello(NamedTuple):
    terms: int
    target: str


def header(kind: Kind, length: int) -> bytes:
    return bytes((kind,)) + length.to_bytes(3, "little")


def decode_header_untrusted(data: bytes | memoryview) -> Header:
    """Raises BadFrame."""
    length = int.from_bytes(data[1:4], "little")
    try:
        kind = Kind(data[0])
    except ValueError:
        raise BadFrame(f"a frame of unknown kind {data[0]}") from None
    if length > (MAX_DATA if kind is Kind.DATA else MAX_CONTROL):
        raise BadFrame(f"a {kind.name} frame of {length} bytes")
    return Header(kind, length)


def hello(terms: int = 0, target: str = "") -> bytes:
    body = bytes((VERSION, terms)) + target.encode()
    if len(body) > MAX_CONTROL:
        raise ValueError("the target is too long")
    return header(Kind.HELLO, len(body)) + body


def decode_hello_untrusted(body: bytes) -> Hello:
    """Raises BadFrame."""
    if len(body) < 2:
        raise BadFrame("a HELLO without terms")
    if body[0] != VERSION:
        raise BadFrame(f"the other end speaks version {body[0]} of streams, this one {VERSION}")
    try:
        return Hello(body[1], body[2:].decode())
    except UnicodeDecodeError:
        raise BadFrame("a HELLO with a malformed target") from None


def count(kind: Kind, total: int) -> bytes:
    return header(kind, COUNT_LEN) + total.to_bytes(COUNT_LEN, "little")


def decode_count_untrusted(body: bytes) -> int:
    if len(body) != COUNT_LEN:
        raise BadFrame("a count of a wrong length")
    return int.from_bytes(body, "little")


def have(total: int, digest: bytes) -> bytes:
    return header(Kind.HAVE, COUNT_LEN + DIGEST_LEN) + total.to_bytes(COUNT_LEN, "little") + digest


def decode_have_untrusted(body: bytes) -> Have:
    """Raises BadFrame."""
    if len(body) != COUNT_LEN + DIGEST_LEN:
        raise BadFrame("a HAVE frame of a wrong length")
    return Have(int.from_bytes(body[:COUNT_LEN], "little"), body[COUNT_LEN:])


def ended(status: int) -> bytes:
    return header(Kind.ENDED, 1) + bytes((status,))


def decode_ended_untrusted(body: bytes) -> int:
    """A status as a shell has it. Raises BadFrame."""
    if len(body) != 1:
        raise BadFrame("a status of a wrong length")
    return body[0]


def failed(reason: Reason, text: str) -> bytes:
    body = bytes((reason,)) + text.encode("utf-8", "replace")[: MAX_CONTROL - 1]
    return header(Kind.FAILED, len(body)) + body


def decode_failed_untrusted(body: bytes) -> Failed:
    """Its text holds nothing that a terminal obeys."""
    if not body:
        raise BadFrame("a FAILED frame without a reason")
    text = body[1:].decode("utf-8", "replace")
    return Failed(body[0], "".join(char if char.isprintable() else "?" for char in text)[:TEXT_MAX])
