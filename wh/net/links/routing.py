"""All that this host routes anywhere: the routes of all tables, their gateways, and what its rules name.

Read from the kernel as it is (rtnetlink(7)), with nexthop objects (ip-nexthop(8)) and paths of several hops.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from wh.config.model import IPAddress, IPNetwork
from wh.net.links.netlink_socket import NetlinkSocket, read_attributes
from wh.net.links.rtnetlink import RtnetlinkError

# linux/rtnetlink.h, linux/fib_rules.h, linux/nexthop.h
_NEWROUTE, _GETROUTE = 24, 26
_NEWRULE, _GETRULE = 32, 34
_NEWNEXTHOP, _GETNEXTHOP = 104, 106
_RTMSG = struct.Struct("=8BI")  # family, dst len, src len, tos, table, protocol, scope, type; flags
_NHMSG = struct.Struct("=4BI")  # family, scope, protocol, reserved; flags
_RTNEXTHOP = struct.Struct("=HBBi")  # length with attributes, flags, hops, interface
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 1, 4, 5, 9, 18
_FRA_DST = 1
_NHA_GATEWAY = 6
_ADDRESS_LEN = {socket.AF_INET: 4, socket.AF_INET6: 16}
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EINVAL})


class Routing(NamedTuple):
    """routes: destination and index of the link, 0 where there is none or several."""

    routes: list[tuple[IPNetwork, int]]
    rules: list[IPNetwork]
    gateways: set[IPAddress]


def read_routing(kernel: NetlinkSocket) -> Routing:
    """Raises RtnetlinkError, DumpInterrupted."""
    found = Routing([], [], set())
    for family in _ADDRESS_LEN:
        head = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for body in kernel.dump("list the routes", _GETROUTE, _NEWROUTE, head):
            _read_route(body, found)
        for body in _dump_if_any(kernel, "list the routing rules", _GETRULE, _NEWRULE, head):
            destination = _destination(body, _FRA_DST)
            if destination is not None and destination.prefixlen:
                found.rules.append(destination)
    nexthops = _NHMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for body in _dump_if_any(kernel, "list the nexthops", _GETNEXTHOP, _NEWNEXTHOP, nexthops):
        gateway = read_attributes(body[_NHMSG.size :]).get(_NHA_GATEWAY)
        if gateway is not None:
            found.gateways.add(ipaddress.ip_address(gateway))
    return found


def _dump_if_any(kernel: NetlinkSocket, what: str, kind: int, answer: int, head: bytes) -> list[bytes]:
    """Kernels may be built without rules; those before 5.3 have no nexthops."""
    try:
        return kernel.dump(what, kind, answer, head)
    except RtnetlinkError as error:
        if error.error_number in _UNSUPPORTED:
            return []
        raise


def _read_route(body: bytes, found: Routing) -> None:
    destination = _destination(body, _RTA_DST)
    if destination is None:
        return
    attributes = read_attributes(body[_RTMSG.size :])
    found.routes.append((destination, int.from_bytes(attributes.get(_RTA_OIF, b""), "little")))
    found.gateways.update(_gateways(attributes))
    for hop in _hops(attributes.get(_RTA_MULTIPATH, b"")):
        found.gateways.update(_gateways(hop))


def _destination(body: bytes, kind: int) -> IPNetwork | None:
    """None for another family than IPv4 and IPv6: a kernel without IPv6 answers with what it has."""
    family, prefix_len = body[0], body[1]
    if family not in _ADDRESS_LEN:
        return None
    packed = read_attributes(body[_RTMSG.size :]).get(kind, bytes(_ADDRESS_LEN[socket.AddressFamily(family)]))
    return ipaddress.ip_network((packed, prefix_len), strict=False)


def _gateways(attributes: dict[int, bytes]) -> Iterator[IPAddress]:
    if (gateway := attributes.get(_RTA_GATEWAY)) is not None:
        yield ipaddress.ip_address(gateway)
    via = attributes.get(_RTA_VIA, b"")  # a gateway of the other IP version: family 2, address
    if len(via) in (6, 18):
        yield ipaddress.ip_address(via[2:])


def _hops(data: bytes) -> Iterator[dict[int, bytes]]:
    while len(data) >= _RTNEXTHOP.size:
        length = _RTNEXTHOP.unpack_from(data)[0]
        if length < _RTNEXTHOP.size:
            return
        yield read_attributes(data[_RTNEXTHOP.size : length])
        data = data[(length + 3) & ~3 :]
