"""Control messages (docs/protocol.md section 3), one struct a type.

On the wire each is a msgpack array [type, request id, fields...] in the order of the struct. Fields added
later go to the end with a default, so that older and newer nodes understand each other. Every length is
bounded by the schema. An answer carries the request id of what it answers; a message that nobody asked for
carries 0.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated

from msgspec import Meta, Struct

MAX_CONTACTS = 16
MAX_RECORD_LEN = 512
MAX_TOKEN_LEN = 16
MAX_PROBE_PADDING = 1_024
NONCE_LEN = 8

Uint8 = Annotated[int, Meta(ge=0, le=0xFF)]
Uint16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
Uint32 = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
Uint64 = Annotated[int, Meta(ge=0)]  # msgpack itself has no longer integers
KeyBytes = Annotated[bytes, Meta(min_length=32, max_length=32)]
AddressBytes = Annotated[bytes, Meta(min_length=18, max_length=18)]
NonceBytes = Annotated[bytes, Meta(min_length=NONCE_LEN, max_length=NONCE_LEN)]
TokenBytes = Annotated[bytes, Meta(max_length=MAX_TOKEN_LEN)]
RecordBytes = Annotated[bytes, Meta(max_length=MAX_RECORD_LEN)]
PaddingBytes = Annotated[bytes, Meta(max_length=MAX_PROBE_PADDING)]


class Capability(IntFlag):
    """What a node offers. Structs hold a plain int, and `&` tests a bit: no value off the network becomes
    a member as it is, because Python keeps every combination of flags that it has seen."""

    SERVER = 1  # reachable: stores records, may enter routing tables
    RELAY = 2  # takes reservations


class PingWant(IntEnum):
    ECHO = 0
    DIALBACK = 1  # have a third node KNOCK at my observed IP; only in a validated session


class FindWant(IntFlag):
    NODES = 1
    RECORD = 2


class PutStatus(IntEnum):
    STORED = 0  # stored, or already held with this sequence
    OUTDATED = 1  # a higher sequence is held
    BAD_TOKEN = 2
    BAD_RECORD = 3
    TOO_FAR = 4  # 2k live servers are nearer
    FULL = 5


class Contact(Struct, array_like=True, frozen=True):
    """A node as another one tells of it. flags: Capability bits."""

    key: KeyBytes
    address: AddressBytes
    flags: Uint16 = 0


class Ping(Struct, array_like=True, frozen=True, tag=1):
    """want: a PingWant. port: with DIALBACK, the one to KNOCK at (0: the observed one). capabilities: the
    sender's own, so that the answerer learns that a server talks to it."""

    request_id: Uint32
    want: Uint8
    port: Uint16
    nonce: NonceBytes
    capabilities: Uint16 = 0


class Pong(Struct, array_like=True, frozen=True, tag=2):
    """observed: where the PING came from. load: percent. record_sequence: of the answerer's own record,
    0: none. nonce: the PING's."""

    request_id: Uint32
    observed: AddressBytes
    capabilities: Uint16
    load: Uint8
    record_sequence: Uint64
    nonce: NonceBytes = bytes(NONCE_LEN)


class Find(Struct, array_like=True, frozen=True, tag=3):
    """have_sequence: send the record only if it is newer. max: contacts wanted. want: FindWant bits."""

    request_id: Uint32
    key: KeyBytes
    have_sequence: Uint64
    max: Uint8
    want: Uint8


class Nodes(Struct, array_like=True, frozen=True, tag=4):
    """token: for a PUT to this node from the address that asked. contacts: nearest first."""

    request_id: Uint32
    token: TokenBytes
    contacts: Annotated[tuple[Contact, ...], Meta(max_length=MAX_CONTACTS)]
    record: RecordBytes | None = None


class Put(Struct, array_like=True, frozen=True, tag=5):
    request_id: Uint32
    token: TokenBytes
    record: RecordBytes


class PutAck(Struct, array_like=True, frozen=True, tag=6):
    """status: a PutStatus. stored_sequence: of the record held now, 0: none. ttl: seconds it will be kept."""

    request_id: Uint32
    status: Uint8
    stored_sequence: Uint64
    ttl: Uint16


class Challenge(Struct, array_like=True, frozen=True, tag=7):
    request_id: Uint32
    nonce: NonceBytes


class Response(Struct, array_like=True, frozen=True, tag=8):
    """nonce: the CHALLENGE's, sent back from the address that it went to."""

    request_id: Uint32
    nonce: NonceBytes


class Dialback(Struct, array_like=True, frozen=True, tag=9):
    """address: where the KNOCK with this nonce shall go."""

    request_id: Uint32
    address: AddressBytes
    nonce: NonceBytes


class Probe(Struct, array_like=True, frozen=True, tag=23):
    """padding makes the datagram as long as the path that is tried; its bytes mean nothing."""

    request_id: Uint32
    attempt: Uint32
    number: Uint32
    padding: PaddingBytes = b""


class ProbeAck(Struct, array_like=True, frozen=True, tag=24):
    """attempt and number: the PROBE's. Never longer than what it answers."""

    request_id: Uint32
    attempt: Uint32
    number: Uint32
    padding: PaddingBytes = b""


class Nominate(Struct, array_like=True, frozen=True, tag=25):
    """path: 0 is the path that this message travels on."""

    request_id: Uint32
    epoch: Uint32
    path: Uint32 = 0


class Leaving(Struct, array_like=True, frozen=True, tag=40):
    request_id: Uint32 = 0


Message = (
    Ping
    | Pong
    | Find
    | Nodes
    | Put
    | PutAck
    | Challenge
    | Response
    | Dialback
    | Probe
    | ProbeAck
    | Nominate
    | Leaving
)

ANSWERS: dict[type[Message], type[Message]] = {
    Ping: Pong,
    Find: Nodes,
    Put: PutAck,
    Challenge: Response,
    Probe: ProbeAck,
}
"""Request -> its answer. The other messages ask for none."""
