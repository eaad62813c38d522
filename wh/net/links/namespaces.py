"""Where a node's interface is: on the host, or in a namespace of its own (wh.net.links.private_namespace)."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Protocol

from wh.config.model import IPAddress, IPNetwork
from wh.errors import SystemSetupError


class Links(Protocol):
    """Links, addresses and routes of one place: wh.net.links.netlink.LinkManager has the details."""

    async def setup_interface(
        self, name: str, *, mtu: int, addresses: Iterable[tuple[IPAddress, int]], routes: Iterable[IPNetwork]
    ) -> tuple[SystemSetupError, ...]: ...

    async def update_interface(
        self, name: str, *, addresses: Iterable[tuple[IPAddress, int]], routes: Iterable[IPNetwork]
    ) -> tuple[SystemSetupError, ...]: ...

    async def local_addresses(self, *, exclude: str | None = None) -> list[IPAddress]:
        """Of the host, where the UDP sockets are."""

    def close(self) -> None: ...


class Namespace(Protocol):
    @property
    def pid(self) -> int | None:
        """Of a process that is in the namespace; None: it is this process's own."""

    def open_tun(self, name: str) -> list[int]:
        """The descriptors of a new interface, one a queue, for the data plane. Raises SystemSetupError."""

    def open_links(self) -> Links: ...

    def read_mtu(self, name: str, tun_fd: int) -> int:
        """Of the interface now. Raises OSError."""

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket inside the namespace. Raises OSError."""


class HostNamespace:
    """The network namespace that this process is in."""

    pid: int | None = None

    def open_tun(self, name: str) -> list[int]:
        from wh.net.links.tun import open_tun

        return open_tun(name)

    def open_links(self) -> Links:
        from wh.net.links.netlink import LinkManager

        return LinkManager()

    def read_mtu(self, name: str, tun_fd: int) -> int:
        from wh.net.links.tun_watch import tun_mtu

        return tun_mtu(tun_fd)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        return socket.socket(family, kind, protocol)
