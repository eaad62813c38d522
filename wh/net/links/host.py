"""What other hosts can know this one by, and its way out: read from the kernel at once, without a thread."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TypeVar

from wh.config.model import IPAddress
from wh.net.links import interface
from wh.net.links.netlink_socket import NetlinkSocket, open_netlink
from wh.net.links.rtnetlink import DumpInterrupted, Gateway, LinkAddress, Way

_OUTSIDE = (ipaddress.IPv4Address("192.0.0.9"), ipaddress.IPv6Address("2001:1::1"))
"""PCP's own anycast addresses (RFC 7723): on the default route, or wherever somebody put a PCP server."""

_ATTEMPTS = 4  # at an operation in whose middle the configuration changed

T = TypeVar("T")


def of_host(operation: Callable[[NetlinkSocket], T]) -> T:
    """The result of a function, in the network namespace of this process. Raises SystemSetupError."""
    for attempt in range(1, _ATTEMPTS + 1):
        kernel = open_netlink()
        try:
            return operation(kernel)
        except DumpInterrupted:
            if attempt == _ATTEMPTS:
                raise
        finally:
            kernel.close()
    raise AssertionError


def host_addresses() -> list[IPAddress]:
    """Which: wh.net.links.interface.local_addresses."""
    return of_host(lambda kernel: interface.local_addresses(kernel, None))


def host_link_addresses() -> list[LinkAddress]:
    """The same, each with its link. Raises SystemSetupError."""

    def read(kernel: NetlinkSocket) -> list[LinkAddress]:
        known = set(interface.local_addresses(kernel, None))
        return [entry for entry in kernel.addresses() if entry.address.ip in known]

    return of_host(read)


def host_gateways() -> dict[int, Gateway]:
    """The next hops of this host on the way to the Internet, by IP version, as far as there are some. Takes
    less than a millisecond. Raises RtnetlinkError."""
    found = of_host(lambda kernel: {to.version: kernel.gateway_to(to) for to in _OUTSIDE})
    return {version: gateway for version, gateway in found.items() if gateway is not None}


def ways_out(kernel: NetlinkSocket, mark: int = 0) -> tuple[Way | None, ...]:
    """To the Internet, by IPv4 and by IPv6, with or without a gateway."""
    return tuple(kernel.way_to(to, mark=mark) for to in _OUTSIDE)
