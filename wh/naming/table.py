"""Names, keys and overlay addresses of a network's peers, each found from the others."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, replace

from wh.config.model import IPAddress, Network, Peer
from whcore.errors import InvalidKey
from whcore.keys import decode_key, encode_key, orchid


@dataclass(frozen=True, slots=True)
class NameEntry:
    """One peer: its key, its host name if it has one, and its overlay addresses, none where it is not
    trusted."""

    key: bytes
    hostname: str | None
    addresses: tuple[IPAddress, ...]  # of the subnet first, then its ORCHID

    @property
    def label(self) -> str:
        """How to show the peer to a person."""
        return self.hostname or encode_key(self.key)

    def without_ipv6(self) -> NameEntry:
        """For a member whose host takes none; as it is where there is nothing else."""
        ipv4 = tuple(address for address in self.addresses if address.version == 4)
        return replace(self, addresses=ipv4 or self.addresses)


class NameTable:
    """Lookup by host name (any case), key text (either base64 form) and overlay address.

    A key that has a boot and a trust line is one entry: the trusted line's name wins, the other's is known
    too. An alias is found by its name and its alias key, and has no ORCHID: that comes with the key it will
    be bound to.
    """

    def __init__(self, network: Network) -> None:
        namespace = network.namespace.encode()
        self._by_key: dict[bytes, NameEntry] = {}
        self._by_hostname: dict[str, NameEntry] = {}
        self._by_address: dict[IPAddress, NameEntry] = {}
        for peer in sorted(network.peers, key=lambda peer: not peer.trusted):
            entry = self._by_key.setdefault(peer.key, _entry_of(peer, namespace))
            if peer.hostname is not None:
                self._by_hostname[peer.hostname.lower()] = entry
            for address in entry.addresses:
                self._by_address[address] = entry

    def __iter__(self) -> Iterator[NameEntry]:
        return iter(self._by_key.values())

    def of_key(self, key: bytes) -> NameEntry | None:
        return self._by_key.get(key)

    def of_address(self, address: IPAddress) -> NameEntry | None:
        return self._by_address.get(address)

    def label(self, key: bytes) -> str:
        """A key's host name, or the key as text where it has none."""
        entry = self._by_key.get(key)
        return entry.label if entry else encode_key(key)

    def find(self, word: str) -> NameEntry | None:
        """What a user's word means: a key (also one that the network file has not), an overlay address or a
        name."""
        try:
            key = decode_key(word)
        except InvalidKey:
            pass
        else:
            return self._by_key.get(key) or NameEntry(key, None, ())
        try:
            return self._by_address.get(ipaddress.ip_address(word))
        except ValueError:
            return self._by_hostname.get(word.lower())


def _entry_of(peer: Peer, namespace: bytes) -> NameEntry:
    addresses: list[IPAddress] = [] if peer.ip is None else [peer.ip]
    if peer.trusted and not peer.is_alias:
        addresses.append(ipaddress.IPv6Address(orchid(peer.key, namespace)))
    return NameEntry(peer.key, peer.hostname, tuple(addresses))
