"""rtnetlink(7) requests, typed: the only module that knows pyroute2.

pyroute2 runs an event loop of its own and does not run under uvloop: use this in a thread that runs no
loop. It is imported on first use, which takes 0.1 s.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from wh.config.model import IPAddress, IPNetwork
from wh.errors import Code, SystemSetupError

ROUTE_PROTOCOL = 87  # rtm_protocol: marks our routes among others'; not in iproute2's list

# linux/if.h, linux/if_addr.h, linux/rtnetlink.h
_IFF_UP = 0x1
_IFA_F_NODAD = 0x02
_IFA_F_UNUSABLE = 0x08 | 0x20 | 0x40  # DADFAILED, DEPRECATED, TENTATIVE
_RT_SCOPE_LINK = 253
_RT_SCOPE_UNIVERSE = 0
_RT_TABLE_MAIN = 254


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
    """An address as the kernel has it."""

    ifindex: int  # of its link
    address: InterfaceAddress
    usable: bool  # duplicate address detection passed, not deprecated


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


@contextmanager
def open_rtnetlink() -> Iterator[Rtnetlink]:
    """A socket for one operation: one that is kept would have to be read. Raises SystemSetupError."""
    from pyroute2 import IPRoute  # type: ignore[import-untyped]

    loop = asyncio.SelectorEventLoop()  # whatever the process's policy is
    try:
        with IPRoute(groups=0, use_event_loop=loop) as ip:
            yield Rtnetlink(ip)
    finally:
        loop.close()


@contextmanager
def _request(what: str) -> Iterator[None]:
    from pyroute2.netlink.exceptions import (  # type: ignore[import-untyped]
        NetlinkDumpInterrupted,
        NetlinkError,
    )

    try:
        yield
    except NetlinkDumpInterrupted as error:
        raise DumpInterrupted(f"cannot {what}: the network configuration keeps changing") from error
    except NetlinkError as error:
        raise RtnetlinkError(what, error.code) from error
    except OSError as error:
        raise RtnetlinkError(what, error.errno or errno.EIO) from error


class Rtnetlink:
    """Requests on one open socket. All raise RtnetlinkError, the listing ones also DumpInterrupted."""

    def __init__(self, ip: Any) -> None:
        self._ip = ip

    # Links

    def links(self) -> list[Link]:
        with _request("list the network interfaces"):
            return [_link_of(message) for message in self._ip.get_links()]

    def link(self, name: str) -> Link | None:
        with _request(f"look for the interface {name}"):
            found = self._ip.link_lookup(ifname=name)
            return _link_of(self._ip.get_links(found[0])[0]) if found else None

    def set_link(self, ifindex: int, *, up: bool, mtu: int) -> None:
        with _request(f"set the MTU to {mtu} and bring the interface {'up' if up else 'down'}"):
            self._ip.link("set", index=ifindex, state="up" if up else "down", mtu=mtu)

    def delete_link(self, ifindex: int) -> None:
        with _request("delete the interface"):
            self._ip.link("del", index=ifindex)

    # Addresses

    def addresses(self) -> list[LinkAddress]:
        with _request("list the addresses"):
            return [_address_of(message) for message in self._ip.get_addr()]

    def add_address(self, ifindex: int, address: InterfaceAddress) -> None:
        """Usable at once: nobody else can have an overlay address, so there is nothing to detect."""
        with _request(f"add the address {address}"):
            self._ip.addr("add", flags=_IFA_F_NODAD, **_address_fields(ifindex, address))

    def delete_address(self, ifindex: int, address: InterfaceAddress) -> None:
        with _request(f"remove the address {address}"):
            self._ip.addr("del", **_address_fields(ifindex, address))

    # Routes

    def our_routes(self, ifindex: int) -> list[IPNetwork]:
        """Destinations of the routes that we have made through a link."""
        routes: list[IPNetwork] = []
        with _request("list the routes"):
            for family in (4, 6):
                for message in self._ip.get_routes(
                    family=_FAMILIES[family], oif=ifindex, table=_RT_TABLE_MAIN
                ):
                    if message["proto"] == ROUTE_PROTOCOL:
                        routes.append(_destination_of(message, family))
        return routes

    def add_route(self, ifindex: int, destination: IPNetwork) -> None:
        with _request(f"add the route to {destination}"):
            self._ip.route("add", **_route_fields(ifindex, destination))

    def delete_route(self, ifindex: int, destination: IPNetwork) -> None:
        with _request(f"remove the route to {destination}"):
            self._ip.route("del", **_route_fields(ifindex, destination))

    def outgoing_link(self, destination: IPAddress) -> int | None:
        """Index of the link that packets to an address leave by, None where there is no route."""
        try:
            with _request(f"find the route to {destination}"):
                family = _FAMILIES[destination.version]
                message = self._ip.route("get", family=family, dst=str(destination))[0]
        except RtnetlinkError as error:
            if error.error_number in NO_ROUTE:
                return None
            raise
        ifindex = message.get_attr("RTA_OIF")
        return None if ifindex is None else int(ifindex)


# No route at all, and the routes of type unreachable, prohibit and blackhole.
NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL})

_FAMILIES = {4: 2, 6: 10}  # IP version to address family (AF_INET, AF_INET6 of Linux)


def _link_of(message: Any) -> Link:
    return Link(
        ifindex=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        up=bool(message["flags"] & _IFF_UP),
        mtu=message.get_attr("IFLA_MTU"),
    )


def _address_of(message: Any) -> LinkAddress:
    """IFA_LOCAL is the interface's own address; IFA_ADDRESS is the far end's on a point-to-point link."""
    ip = ipaddress.ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    return LinkAddress(
        message["index"], InterfaceAddress(ip, message["prefixlen"]), usable=not flags & _IFA_F_UNUSABLE
    )


def _address_fields(ifindex: int, address: InterfaceAddress) -> dict[str, Any]:
    return {
        "index": ifindex,
        "family": _FAMILIES[address.ip.version],
        "address": str(address.ip),
        "prefixlen": address.prefix_len,
    }


def _route_fields(ifindex: int, destination: IPNetwork) -> dict[str, Any]:
    return {
        "family": _FAMILIES[destination.version],
        "dst": str(destination),
        "oif": ifindex,
        "proto": ROUTE_PROTOCOL,
        "scope": _RT_SCOPE_LINK if destination.version == 4 else _RT_SCOPE_UNIVERSE,
        "table": _RT_TABLE_MAIN,
    }


def _destination_of(message: Any, version: int) -> IPNetwork:
    address = message.get_attr("RTA_DST") or ("0.0.0.0" if version == 4 else "::")  # noqa: S104
    return ipaddress.ip_network(f"{address}/{message['dst_len']}")
