"""Where a node's interface is: on the host, or in a namespace of its own (wh.net.private.namespace)."""

from __future__ import annotations

import socket
from typing import Protocol

from wh.config.model import IPAddress
from wh.net.links.interface import Restored, Wanted, Warnings


class Links(Protocol):
    """An interface, and the addresses around. All raise SystemSetupError."""

    async def setup(self, wanted: Wanted) -> Warnings:
        """Bring the interface up with all of it, or leave it as it was.

        Returns warnings, as errors that were not raised: no IPv6 on this system, a route of another link in
        the way."""

    async def update(self, wanted: Wanted) -> Warnings:
        """Add and remove what differs, or leave all as it was. Returns warnings as setup() does."""

    async def restore(self, wanted: Wanted) -> Restored | None:
        """Put back what is missing. None: the interface is not there; it may be in another namespace."""

    @property
    def name(self) -> str:
        """Of the interface, when it was looked at last."""

    async def local_addresses(self) -> list[IPAddress]:
        """Of the host, where the UDP sockets are: wh.net.links.interface.local_addresses, without ours."""

    def close(self) -> None: ...


class Namespace(Protocol):
    @property
    def pid(self) -> int | None:
        """Of a process that is in the namespace; None: it is this process's own."""

    def open_tun(self, name: str) -> list[int]:
        """The descriptors of a new interface, one a queue, for the data plane. Raises SystemSetupError."""

    def open_links(self, name: str) -> Links:
        """name: of our interface, once there is one."""

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

    def open_links(self, name: str) -> Links:
        from wh.net.links.netlink import HostLinks

        return HostLinks(name)

    def read_mtu(self, name: str, tun_fd: int) -> int:
        from wh.net.links.tun_watch import tun_mtu

        return tun_mtu(tun_fd)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        return socket.socket(family, kind, protocol)
