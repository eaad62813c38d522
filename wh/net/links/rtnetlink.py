"""What the kernel tells and takes about links, addresses and routes (rtnetlink(7)), as values; its errors."""

from __future__ import annotations

import errno
import ipaddress
import os
from typing import NamedTuple

from wh.config.model import IPAddress, IPNetwork
from wh.errors import Code, SystemSetupError

ROUTE_PROTOCOL = 87
"""rtm_protocol: marks our routes among others'; not in iproute2's list."""

METRIC = {4: 0, 6: 1024}
"""By IP version: what a route gets that names none (IP6_RT_PRIO_USER)."""


class Link(NamedTuple):
    ifindex: int
    name: str
    up: bool
    mtu: int


class InterfaceAddress(NamedTuple):
    ip: IPAddress
    prefix_len: int

    @property
    def subnet(self) -> IPNetwork:
        return ipaddress.ip_network(f"{self.ip}/{self.prefix_len}", strict=False)

    def __str__(self) -> str:
        return f"{self.ip}/{self.prefix_len}"


class LinkAddress(NamedTuple):
    """An address as the kernel has it. ifindex: of its link. usable: duplicate address detection passed, not
    deprecated. reserved: as ours are (NetlinkSocket.add_address): without a route of its own, and if IPv6 no
    source for what is not routed to name it."""

    ifindex: int
    address: InterfaceAddress
    usable: bool
    reserved: bool = True


class Route(NamedTuple):
    """Into a link. source: what datagrams leave with that name none; None: what the kernel chooses."""

    destination: IPNetwork
    source: IPAddress | None
    metric: int

    def __str__(self) -> str:
        return str(self.destination)


class ForeignRoute(NamedTuple):
    """Of the main table, none of ours. ifindex: 0 where it is of several links, or of none."""

    destination: IPNetwork
    ifindex: int
    gateway: IPAddress | None


class Way(NamedTuple):
    """Where packets to an address leave: by which link, to which gateway of the same family, and with which
    source, if that was not said."""

    ifindex: int
    gateway: IPAddress | None
    source: IPAddress | None


class Gateway(NamedTuple):
    """The next hop on the way out of this host, and the address of ours that it sees."""

    address: IPAddress
    source: IPAddress
    ifindex: int  # of the link between


class RtnetlinkError(SystemSetupError):
    """The kernel refused a request; error_number is its errno."""

    def __init__(self, what: str, error_number: int) -> None:
        if error_number == errno.EPERM:
            code, hint = Code.NOT_PERMITTED, "run as root, or give the program CAP_NET_ADMIN"
        else:
            code, hint = Code.NETWORK_SETUP, ""
        super().__init__(f"cannot {what}: {os.strerror(error_number)}", code=code, hint=hint)
        self.error_number = error_number


class DumpInterrupted(SystemSetupError):
    """The configuration changed while the kernel listed it; the operation has to be repeated."""
