"""Who loses when a table that strangers fill is full: the most crowded network.

Keys and ports cost nothing, addresses in many networks do. So a newcomer takes a place from the network that
holds most of them, however old its claims are, and nobody gains by coming with more names."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from wh.wire.address import Address, prefix

LEVELS = ((16, 32), (24, 48), (32, 64))
"""Bits of IPv4 and of IPv6: what one operator has, what one customer has, one host."""

Name = TypeVar("Name", bound=Hashable)


class _Network(Generic[Name]):
    """size: names in it. parts: the networks within; in the innermost ones there are the names instead."""

    __slots__ = ("names", "parts", "size")

    def __init__(self) -> None:
        self.size = 0
        self.parts: dict[bytes, _Network[Name]] = {}
        self.names: dict[Name, None] = {}

    def largest(self) -> _Network[Name]:
        """Of the parts; there must be one."""
        return max(self.parts.values(), key=lambda part: part.size)


class Crowd(Generic[Name]):
    """Names and where each comes from. add(), remove() and `in` take constant time, rivals() looks at each
    network once."""

    def __init__(self) -> None:
        self._root: _Network[Name] = _Network()
        self._addresses: dict[Name, Address] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def __contains__(self, name: Name) -> bool:
        return name in self._addresses

    def __iter__(self) -> Iterator[Name]:
        return iter(self._addresses)

    def add(self, name: Name, address: Address) -> None:
        """One that is here moves; within its host it keeps its age."""
        before = self._addresses.get(name)
        if before is not None:
            if _host(before) == _host(address):
                return
            self.remove(name)
        self._addresses[name] = address
        for network in self._way_to(address):
            network.size += 1
        network.names[name] = None

    def remove(self, name: Name) -> None:
        address = self._addresses.pop(name, None)
        if address is None:
            return
        way = self._way_to(address)
        del way[-1].names[name]
        for network in way:
            network.size -= 1
        for outer, inner, bits in zip(way, way[1:], LEVELS, strict=False):
            if not inner.size:
                del outer.parts[prefix(address, *bits)]
                return

    def count(self, address: Address, level: int) -> int:
        """Names from the network of that level that the address is in."""
        network: _Network[Name] | None = self._root
        for bits in LEVELS[: level + 1]:
            network = network.parts.get(prefix(address, *bits)) if network is not None else None
        return network.size if network is not None else 0

    def rivals(self, newcomer: Address, within: int = 0) -> list[Name]:
        """Those of whom one must go for a newcomer from that address, the oldest first: all from one host, of
        the most crowded network. Empty: nobody; then the newcomer's own network is as crowded as any. within:
        only those of its own network of so many levels.

        Afterwards the loser's network is still no less crowded than the newcomer's: so whoever was turned out
        does not get in again the same way, and places do not go back and forth."""
        network = self._root
        for level, bits in enumerate(LEVELS):
            if not network.parts:
                return []
            own = network.parts.get(prefix(newcomer, *bits))
            largest = network.largest()
            if level >= within and largest.size >= (own.size if own is not None else 0) + 2:
                return _most_crowded_host(largest)
            if own is None:
                return []
            network = own
        return []

    def surplus(self, capacity: int) -> list[Name]:
        """Whom to remove so that no more than `capacity` are left: each time the youngest of the most crowded
        host."""
        rest: Crowd[Name] = Crowd()
        for name, address in self._addresses.items():
            rest.add(name, address)
        found: list[Name] = []
        while len(rest) > capacity:
            found.append(_most_crowded_host(rest._root)[-1])
            rest.remove(found[-1])
        return found

    def _way_to(self, address: Address) -> list[_Network[Name]]:
        """The whole, and the network of each level, made where it is not there."""
        way = [self._root]
        for bits in LEVELS:
            way.append(way[-1].parts.setdefault(prefix(address, *bits), _Network()))
        return way


def _most_crowded_host(network: _Network[Name]) -> list[Name]:
    while network.parts:
        network = network.largest()
    return list(network.names)


def _host(address: Address) -> bytes:
    return prefix(address, *LEVELS[-1])
