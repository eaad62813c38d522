"""Signed endpoint records: where a node can be reached (docs/protocol.md section 4).

    "WHR2" || key 32 || sequence 8 || expiry 4 || flags 2 || body length 2 || body || signature 64

Integers are little-endian; the body is a msgpack array. The signature is over "wirehub record", the namespace
and everything before it, so a record of one network means nothing in another.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from wh.wire.address import Address, is_usable
from wh.wire.candidates import MAX_CANDIDATES, Candidate, NatProfile
from wh.wire.errors import BadRecord, UntimelyRecord
from wh.wire.fields import AddressBytes, KeyBytes, Uint8, Uint16
from wh.wire.messages import MAX_RECORD_LEN
from wh.wire.public_key import Key, is_public_key

MAX_LIFETIME_S = 2 * 3600
CLOCK_SKEW_S = 600
MAX_RELAYS = 3
SIGNATURE_LEN = 64

_MAGIC = b"WHR2"
_HEADER = struct.Struct("<4s32sQIHH")
_LABEL = b"wirehub record"

Sign = Callable[[bytes], bytes]
"""Message -> 64 bytes of XEdDSA signature by the node's own key."""

Verify = Callable[[bytes, bytes, bytes], bool]
"""Public key, message, signature -> whether it is valid. Malformed input is False."""


class RecordFlag(IntFlag):
    SERVER = 1
    RELAY = 2


class Relay(msgspec.Struct, array_like=True, frozen=True):
    """A relay that forwards to the node. address: the relay's, with UDP. transport: how the node reaches it:
    0 UDP, 1 TCP. tcp_port: where the relay also listens; 0: nowhere, or not known."""

    key: KeyBytes
    address: AddressBytes
    rtt_ms: Uint16 = 0
    transport: Uint8 = 0
    tcp_port: Uint16 = 0


class _Body(msgspec.Struct, array_like=True, frozen=True):
    candidates: Annotated[tuple[Candidate, ...], Meta(max_length=MAX_CANDIDATES)]
    relays: Annotated[tuple[Relay, ...], Meta(max_length=MAX_RELAYS)]
    nat: NatProfile


class RecordHeader(NamedTuple):
    """What a record claims, before its signature is checked. expiry: Unix seconds."""

    key: Key
    sequence: int
    expiry: int
    flags: int


@dataclass(frozen=True, slots=True)
class Record:
    """One endpoint record.

    sequence: the highest wins. expiry: Unix seconds. flags: RecordFlag bits. candidates and relays: best
    first. encoded: the signed bytes, at most 512; empty for one that is not signed yet.
    """

    key: Key
    sequence: int
    expiry: int
    flags: int = 0
    candidates: tuple[Candidate, ...] = ()
    relays: tuple[Relay, ...] = ()
    nat: NatProfile = NatProfile()
    encoded: bytes = field(default=b"", compare=False, repr=False)


_body_encoder = msgspec.msgpack.Encoder()
_body_decoder = msgspec.msgpack.Decoder(_Body)


def next_sequence(last: int, unix: float) -> int:
    """The sequence of a record made now; it rises also where the clock went back."""
    return max(last + 1, int(unix * 1000))


def encode_unsigned(record: Record) -> bytes:
    """Everything before the signature. Raises ValueError where the signed record would exceed 512 bytes."""
    body = _body_encoder.encode(_Body(record.candidates, record.relays, record.nat))
    header = _HEADER.pack(_MAGIC, record.key, record.sequence, record.expiry, record.flags, len(body))
    total = len(header) + len(body) + SIGNATURE_LEN
    if total > MAX_RECORD_LEN:
        raise ValueError(f"a record of {total} bytes; the limit is {MAX_RECORD_LEN}")
    return header + body


def signed_message(unsigned: bytes, namespace: bytes) -> bytes:
    """What the signature is over. namespace: at most 255 bytes."""
    return b"".join((_LABEL, bytes((len(namespace),)), namespace, unsigned))


def sign_record(record: Record, *, namespace: bytes, sign: Sign) -> Record:
    """The record with `encoded` filled in. Raises ValueError where it is too long."""
    unsigned = encode_unsigned(record)
    return replace(record, encoded=unsigned + sign(signed_message(unsigned, namespace)))


def decode_header_untrusted(data: bytes) -> RecordHeader:
    """What a record claims, to decide whether its signature is worth checking. Raises BadRecord only."""
    if not _HEADER.size + SIGNATURE_LEN <= len(data) <= MAX_RECORD_LEN:
        raise BadRecord(f"a record of {len(data)} bytes")
    magic, key, sequence, expiry, flags, body_len = _HEADER.unpack_from(data)
    if magic != _MAGIC or len(data) != _HEADER.size + body_len + SIGNATURE_LEN:
        raise BadRecord("not a version 2 record, or its length field is wrong")
    if not is_public_key(key):
        raise BadRecord("its key is no public key")
    return RecordHeader(key, sequence, expiry, flags)


def is_signed(data: bytes, key: Key, *, namespace: bytes, verify: Verify) -> bool:
    """Whether that key has signed a record that decode_header_untrusted() took."""
    return verify(key, signed_message(data[:-SIGNATURE_LEN], namespace), data[-SIGNATURE_LEN:])


def decode_untrusted(
    data: bytes, *, namespace: bytes, verify: Verify, unix: float, allow_loopback: bool = False
) -> Record:
    """A record whose signature is valid and which has not expired. Raises BadRecord only.

    Candidates and relays at addresses that no datagram may be sent to are left out.
    """
    header = decode_header_untrusted(data)
    if not unix < header.expiry <= unix + MAX_LIFETIME_S + CLOCK_SKEW_S:
        raise UntimelyRecord("it has expired, or expires too far ahead")
    if not is_signed(data, header.key, namespace=namespace, verify=verify):
        raise BadRecord("its signature is not valid")
    unsigned = data[:-SIGNATURE_LEN]
    try:
        body = _body_decoder.decode(unsigned[_HEADER.size :])
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecord(f"its body: {error}") from None

    def usable(address: Address) -> bool:
        return is_usable(address, allow_loopback=allow_loopback)

    return Record(
        *header,
        candidates=tuple(candidate for candidate in body.candidates if usable(candidate.address)),
        relays=tuple(relay for relay in body.relays if usable(relay.address) and is_public_key(relay.key)),
        nat=body.nat,
        encoded=bytes(data),
    )
