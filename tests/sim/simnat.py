"""Network address translators of all kinds that RFC 4787 knows, for simnet."""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, auto

from wh.wire.address import Address, pack, port_of

FILTER_LIFETIME_S = 300.0
OCCUPIED_LIFETIME_S = 30.0
"""Of a connection tracking entry that never saw an answer."""

FIRST_PORT = 40_000
PORTS = range(1024, 65536)


class Dependence(Enum):
    """What a mapping or a filter looks at (RFC 4787 4.1 and 5)."""

    ENDPOINT_INDEPENDENT = auto()
    ADDRESS_DEPENDENT = auto()
    ADDRESS_AND_PORT_DEPENDENT = auto()

    def of(self, remote: Address) -> Hashable:
        if self is Dependence.ENDPOINT_INDEPENDENT:
            return None
        return remote[:16] if self is Dependence.ADDRESS_DEPENDENT else remote


class Ports(Enum):
    PRESERVING = auto()  # the inside port where it is free
    SEQUENTIAL = auto()
    RANDOM = auto()


@dataclass
class Nat:
    """mappings stay; what a packet out has opened closes five minutes after the last one.

    open_to_all: endpoint-independent filtering. pool: further public addresses; each mapping gets any of
    them. input_open: a packet from outside that nothing inside asked for occupies its pair of addresses, as
    it does at a Linux router that accepts it for itself: a later packet out that would use the same pair gets
    another port. hairpin: packets from inside to a public address of this NAT come back in. outer: the NAT
    that this one is behind."""

    public_ip: str
    open_to_all: bool = False
    mapping: Dependence = Dependence.ENDPOINT_INDEPENDENT
    filtering: Dependence = Dependence.ADDRESS_AND_PORT_DEPENDENT
    ports: Ports = Ports.SEQUENTIAL
    pool: tuple[str, ...] = ()
    input_open: bool = False
    hairpin: bool = False
    outer: Nat | None = None
    seed: int = 1
    mappings: dict[Hashable, Address] = field(default_factory=dict)  # inside (and remote) -> outside
    contacted: dict[tuple[Address, Hashable], float] = field(default_factory=dict)  # outside, remote -> when
    occupied: dict[tuple[Address, Address], float] = field(default_factory=dict)
    next_port: int = FIRST_PORT

    def __post_init__(self) -> None:
        if self.open_to_all:
            self.filtering = Dependence.ENDPOINT_INDEPENDENT
        self._rng = random.Random(self.seed)
        self._inside: dict[Address, Address] = {}  # outside -> inside

    @property
    def public_ips(self) -> tuple[str, ...]:
        return (self.public_ip, *self.pool)

    def outbound(self, inside: Address, remote: Address, time: float) -> Address:
        about = self.mapping.of(remote)
        outside = self._map(inside if about is None else (inside, about), inside)
        if self._is_occupied(outside, remote, time):
            outside = self._map((inside, remote, "moved"), inside)
        self.contacted[outside, self.filtering.of(remote)] = time
        return outside

    def inbound(self, outside: Address, remote: Address, time: float) -> Address | None:
        inside = self._inside.get(outside)
        if inside is not None and self._lets_in(outside, remote, time):
            return inside
        if self.input_open:
            self.occupied[outside, remote] = time
        return None

    def rebind(self) -> None:
        """Forget every mapping, as a router does that restarts."""
        self.mappings.clear()
        self.contacted.clear()
        self._inside.clear()

    def _lets_in(self, outside: Address, remote: Address, time: float) -> bool:
        about = self.filtering.of(remote)
        return about is None or time - self.contacted.get((outside, about), -1e9) <= FILTER_LIFETIME_S

    def _is_occupied(self, outside: Address, remote: Address, time: float) -> bool:
        if not self.input_open or (outside, self.filtering.of(remote)) in self.contacted:
            return False
        return time - self.occupied.get((outside, remote), -1e9) <= OCCUPIED_LIFETIME_S

    def _map(self, key: Hashable, inside: Address) -> Address:
        if key not in self.mappings:
            outside = self._free(inside)
            self.mappings[key] = outside
            self._inside[outside] = inside
        return self.mappings[key]

    def _free(self, inside: Address) -> Address:
        ip = self._rng.choice(self.public_ips)
        preserved = pack(ip, port_of(inside))
        if self.ports is Ports.PRESERVING and preserved not in self._inside:
            return preserved
        while True:
            outside = pack(ip, self._next_port())
            if outside not in self._inside:
                return outside

    def _next_port(self) -> int:
        if self.ports is Ports.SEQUENTIAL:
            self.next_port += 1
            return self.next_port
        return self._rng.choice(PORTS)
