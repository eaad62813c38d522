"""Which addresses datagrams may go to, and from which of our sockets (docs/protocol.md section 1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from wh.config.model import Network
from wh.engine.events import TCP, LocalAddresses, Path
from wh.wire.address import Address, ip_of, is_private, is_usable, is_v4

_ORCHID = b"\x20\x01\x00"
"""2001:20::/28 begins so, and with a 2: overlay addresses (RFC 7343), never a way to reach a node."""


class Addressing:
    """What we know of our own sockets and addresses and of the network's.

    A network whose file names endpoints and all of them are private lives in private address space: there
    private addresses are the addresses. Elsewhere a private address says nothing to whoever reads it in a
    record."""

    def __init__(self) -> None:
        self._sockets: dict[int, int] = {}  # family 4 or 6 -> socket id
        self._local: frozenset[Address] = frozenset()
        self._subnet: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
        self._configured: frozenset[Address] = frozenset()
        self.allow_loopback = False  # the file itself names a loopback endpoint: all nodes run on one host
        self.private_network = False
        self._links: set[Address] = set()
        self.udp_blocked = False

    def set_local(self, local: LocalAddresses) -> None:
        self._sockets = {}
        for socket, family in local.sockets:
            self._sockets.setdefault(family, socket)
        self._local = frozenset(local.addresses)

    def set_network(self, network: Network) -> None:
        self._subnet = network.subnet

    def set_configured(self, addresses: Iterable[Address]) -> None:
        """The endpoints of the network file, as far as they are resolved."""
        self._configured = frozenset(addresses)
        self.allow_loopback = any(ip_of(address).is_loopback for address in self._configured)
        self.private_network = bool(self._configured) and all(map(is_private, self._configured))

    @property
    def local(self) -> frozenset[Address]:
        return self._local

    def has_family_of(self, address: Address) -> bool:
        """Whether this host has an address to send there from, as far as its addresses are known; those that
        mean something on one link alone are not among them."""
        ip = ip_of(address)
        if not self._local or ip.is_link_local or ip.is_loopback:
            return True
        return any(is_v4(own) == is_v4(address) for own in self._local)

    def is_configured(self, address: Address) -> bool:
        return address in self._configured

    def is_local(self, address: Address) -> bool:
        return address in self._local

    def is_main_socket(self, socket: int) -> bool:
        """One of those that are always there, not one that hole punching added."""
        return socket == TCP or socket in self._sockets.values()

    def add_link(self, address: Address) -> None:
        """A connection over TCP stands for this UDP address from now on."""
        self._links.add(address)

    def remove_link(self, address: Address) -> None:
        self._links.discard(address)

    def path_to(self, address: Address) -> Path | None:
        """None where we have no socket of its family, or may not send there; also where UDP does not get out
        of our own network, so that nothing is sent in vain, and nobody waits for it."""
        if address in self._links:
            return Path(TCP, address)
        if self.udp_blocked and not is_private(address):
            return None
        return self.udp_path_to(address)

    def paths_to(self, addresses: Iterable[Address]) -> list[Path]:
        """Those that there are, each once, in the order of the addresses."""
        paths = map(self.path_to, dict.fromkeys(addresses))
        return [path for path in paths if path is not None]

    def is_plain(self, path: Path) -> bool:
        """Whether it leads from the socket that all of our UDP goes through, and through no relay."""
        return not path.channel and path.socket in self._sockets.values()

    def udp_path_to(self, address: Address) -> Path | None:
        socket = self._sockets.get(4 if is_v4(address) else 6)
        if socket is None or not self.has_family_of(address) or not self.may_send_to(address):
            return None
        return Path(socket, address)

    def is_acceptable(self, address: Address) -> bool:
        """Whether to believe in an address that another node told us (docs/protocol.md section 1)."""
        if address in self._configured:
            return True
        return self.may_send_to(address) and (self.private_network or not is_private(address))

    def publishable(self) -> list[Address]:
        """Our own addresses that mean something to others, in a stable order."""
        return sorted(address for address in self._local if self.is_acceptable_as_own(address))

    def offerable(self) -> list[Address]:
        """Our own addresses for a peer that may be in a network with us: first those that anybody may reach,
        then private ones, IPv6 before IPv4. No link-local ones: they mean nothing without an interface."""
        usable = [
            address
            for address in self._local
            if is_usable(address, allow_loopback=self.allow_loopback)
            and not self._in_overlay(address)
            and not ip_of(address).is_link_local
        ]
        return sorted(usable, key=lambda address: (is_private(address), is_v4(address), address))

    def is_acceptable_as_own(self, address: Address) -> bool:
        usable = is_usable(address, allow_loopback=self.allow_loopback) and not self._in_overlay(address)
        return usable and (self.private_network or not is_private(address))

    def may_send_to(self, address: Address) -> bool:
        usable = is_usable(address, allow_loopback=self.allow_loopback)
        return usable and not self.is_local(address) and not self._in_overlay(address)

    def _in_overlay(self, address: Address) -> bool:
        """Control traffic must not go into the tunnels that it exists to build."""
        if address[:3] == _ORCHID and address[3] >> 4 == 2:
            return True
        if self._subnet is None or is_v4(address) != (self._subnet.version == 4):
            return False
        return ip_of(address) in self._subnet
