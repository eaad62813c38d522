"""Addresses that a node may be reached at, and what its NAT does to them (docs/protocol.md 4, 6)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import msgspec

from wh.wire.fields import AddressBytes, Uint8

MAX_CANDIDATES = 8


class CandidateFlag(IntFlag):
    CONFIRMED = 1  # a KNOCK or PROBE arrived there; without it only one node's word stands for it
    REFLEXIVE = 2  # where servers saw a socket behind a translation; only in OFFER and ANSWER


class Mapping(IntEnum):
    """How a NAT maps (RFC 4787 4.1), as far as it matters to punching (docs/protocol.md section 6)."""

    UNKNOWN = 0
    NONE = 1  # no NAT
    ENDPOINT_INDEPENDENT = 2
    SEQUENTIAL = 3  # endpoint-dependent, small steps between ports
    RANDOM = 4  # endpoint-dependent


class Filtering(IntEnum):
    """What a NAT lets in (RFC 4787 5). ADDRESS_DEPENDENT as a node tells it of itself: at least that; whether
    ports count too, nobody who only talks to WireHub nodes can find out."""

    UNKNOWN = 0
    ENDPOINT_INDEPENDENT = 1
    ADDRESS_DEPENDENT = 2
    ADDRESS_AND_PORT_DEPENDENT = 3


class Candidate(msgspec.Struct, array_like=True, frozen=True):
    """A direct address. flags: CandidateFlag bits."""

    address: AddressBytes
    flags: Uint8 = 0


class NatProfile(msgspec.Struct, array_like=True, frozen=True):
    """mapping: a Mapping. filtering: a Filtering. Plain ints, for values that a later version may add. step:
    between the ports that a SEQUENTIAL mapping takes one after the other; else 0."""

    mapping: Uint8 = Mapping.UNKNOWN
    filtering: Uint8 = Filtering.UNKNOWN
    step: Uint8 = 0
