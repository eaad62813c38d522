"""Limits on how many contacts may come from one network, so that nobody rents a whole region of the DHT."""

from __future__ import annotations

from collections import Counter

from wh.wire.address import Address, is_private, prefix

Networks = tuple[bytes, bytes]
"""The /24 and the /16 that an address is in; of IPv6 the /48 and the /32."""


def networks_of(address: Address) -> Networks:
    return prefix(address, 24, 48), prefix(address, 16, 32)


class PrefixLimit:
    """Counts addresses by their network and says when one network has had its share.

    Private addresses are exempt: whoever has one at all is on our own network.
    """

    def __init__(self, v4_bits: int, v6_bits: int, limit: int) -> None:
        """limit: addresses of one IPv4 network of v4_bits, or IPv6 network of v6_bits (whole bytes)."""
        self._v4_bits = v4_bits
        self._v6_bits = v6_bits
        self._limit = limit
        self._counts: Counter[bytes] = Counter()

    def network_of(self, address: Address) -> bytes:
        return prefix(address, self._v4_bits, self._v6_bits)

    def has_room(self, address: Address) -> bool:
        return is_private(address) or self._counts[self.network_of(address)] < self._limit

    def add(self, address: Address) -> None:
        self._counts[self.network_of(address)] += 1

    def remove(self, address: Address) -> None:
        """Take back one add() of this address."""
        network = self.network_of(address)
        self._counts[network] -= 1
        if not self._counts[network]:
            del self._counts[network]
