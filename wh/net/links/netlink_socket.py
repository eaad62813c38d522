"""rtnetlink(7) on a socket that somebody gives us, which may be one of another network namespace.

The few requests that an interface of ours needs, without a library: pyroute2 makes its sockets itself, runs
an event loop of its own, and takes 0.1 s to import, too long for a program that connects within 0.5 s.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

from wh.config.model import IPAddress
from wh.net.links.rtnetlink import (
    ROUTE_PROTOCOL,
    DumpInterrupted,
    ForeignRoute,
    Gateway,
    InterfaceAddress,
    Link,
    LinkAddress,
    Route,
    RtnetlinkError,
    Way,
)

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_RTMSG = struct.Struct("=8BI")  # family, dst len, src len, tos, table, protocol, scope, type; flags
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLM_F_CREATE_NEW = 0x600  # CREATE | EXCL
_NLM_F_DUMP_INTR = 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 1, 3, 4, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_IFA_CACHE = struct.Struct("=4I")  # seconds: preferred, valid; when it was made and changed
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MARK = 1, 2, 4, 5, 6, 7, 16
_KIND_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_IFF_UP, _IFF_NOARP = 0x1, 0x80
_IFA_F_NODAD, _IFA_F_DEPRECATED, _IFA_F_NOPREFIXROUTE = 0x02, 0x20, 0x200
_IFA_F_UNUSABLE = 0x08 | 0x20 | 0x40  # DADFAILED, DEPRECATED, TENTATIVE
_RESERVED = {4: _IFA_F_NOPREFIXROUTE, 6: _IFA_F_NOPREFIXROUTE | _IFA_F_DEPRECATED}
_FOREVER = 0xFFFFFFFF
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12  # Linux 4.20: listings by what the request says
_SCOPE_UNIVERSE, _SCOPE_LINK, _TABLE_MAIN, _UNICAST = 0, 253, 254, 1
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ENODEV})
"""No route at all, and the routes of type unreachable, prohibit and blackhole."""

_RECEIVE_LEN = 64 * 1024
_TIMEOUT_S = 5.0


class NetlinkSocket:
    """The Kernel of wh.net.links.interface. One thread at a time; raises RtnetlinkError, listings
    DumpInterrupted."""

    def __init__(self, netlink: socket.socket) -> None:
        """Takes ownership of an unbound AF_NETLINK socket of NETLINK_ROUTE."""
        self._socket = netlink
        self._socket.settimeout(_TIMEOUT_S)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    # Links

    def links(self) -> list[Link]:
        what = "list the network interfaces"
        return [_link_of(body) for body in self.dump(what, _GETLINK, _NEWLINK, _IFINFO.pack(0, 0, 0, 0, 0))]

    def link(self, name: str) -> Link | None:
        return next((link for link in self.links() if link.name == name), None)

    def set_link(self, ifindex: int, *, up: bool, mtu: int) -> None:
        body = _IFINFO.pack(0, 0, ifindex, _IFF_UP if up else 0, _IFF_UP)
        what = f"set the MTU to {mtu} and bring the interface {'up' if up else 'down'}"
        self._change(what, _NEWLINK, body + _attribute(_IFLA_MTU, mtu.to_bytes(4, "little")))

    def delete_link(self, ifindex: int) -> None:
        self._change("delete the interface", _DELLINK, _IFINFO.pack(0, 0, ifindex, 0, 0))

    def add_veth(self, name: str, peer: str, hardware_address: bytes) -> None:
        """A pair of links without ARP and neighbour discovery: packets of either end go to the other."""
        head = _IFINFO.pack(0, 0, 0, _IFF_NOARP, _IFF_NOARP)
        other = _attribute(_VETH_INFO_PEER, head + _attribute(_IFLA_IFNAME, _text(peer)))
        kind = _attribute(_IFLA_INFO_KIND, b"veth") + _attribute(_IFLA_INFO_DATA, other)
        body = head + _attribute(_IFLA_IFNAME, _text(name)) + _attribute(_IFLA_ADDRESS, hardware_address)
        self._change(
            f"make the interface {name}",
            _NEWLINK,
            body + _attribute(_IFLA_LINKINFO, kind),
            flags=_NLM_F_CREATE_NEW,
        )

    # Addresses

    def addresses(self) -> list[LinkAddress]:
        what = "list the addresses"
        return [
            _address_of(body) for body in self.dump(what, _GETADDR, _NEWADDR, _IFADDR.pack(0, 0, 0, 0, 0))
        ]

    def add_address(self, ifindex: int, address: InterfaceAddress) -> None:
        """Reserved for what is routed to name it: it brings no route, and IPv6 is deprecated (RFC 6724, rule
        3), so that no packet to elsewhere leaves with it where the host has no better address. Usable at
        once: nobody else can have an overlay address, so there is nothing to detect."""
        flags = (_IFA_F_NODAD | _IFA_F_NOPREFIXROUTE).to_bytes(4, "little")
        body = _address_body(ifindex, address) + _attribute(_IFA_FLAGS, flags)
        if address.ip.version == 6:
            body += _attribute(_IFA_CACHEINFO, _IFA_CACHE.pack(0, _FOREVER, 0, 0))
        self._change(f"add the address {address}", _NEWADDR, body, flags=_NLM_F_CREATE_NEW)

    def delete_address(self, ifindex: int, address: InterfaceAddress) -> None:
        self._change(f"remove the address {address}", _DELADDR, _address_body(ifindex, address))

    # Routes

    def our_routes(self, ifindex: int) -> list[Route]:
        """Those that we have made through a link."""
        found: list[Route] = []
        for version, family in _FAMILIES.items():
            head = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            request = head + _attribute(_RTA_OIF, ifindex.to_bytes(4, "little"))
            for body in self.dump("list the routes", _GETROUTE, _NEWROUTE, request):
                head, attributes = body[: _RTMSG.size], read_attributes(body[_RTMSG.size :])
                out = int.from_bytes(attributes.get(_RTA_OIF, b""), "little")
                if (head[0], head[4], head[5], out) == (family, _TABLE_MAIN, ROUTE_PROTOCOL, ifindex):
                    found.append(_route_of(version, head[1], attributes))
        return found

    def other_routes(self, version: int, ifindex: int) -> list[ForeignRoute]:
        """Of all links but that one, in the main table."""
        family = _FAMILIES[version]
        found = []
        request = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for body in self.dump("list the routes", _GETROUTE, _NEWROUTE, request):
            if (body[0], body[4], body[7]) != (family, _TABLE_MAIN, _UNICAST):
                continue
            attributes = read_attributes(body[_RTMSG.size :])
            route = _route_of(version, body[1], attributes)
            out = int.from_bytes(attributes.get(_RTA_OIF, b""), "little")
            gateway = attributes.get(_RTA_GATEWAY)
            if out != ifindex:
                via = None if gateway is None else ipaddress.ip_address(gateway)
                found.append(ForeignRoute(route.destination, out, via))
        return found

    def add_route(self, ifindex: int, route: Route) -> None:
        body = _route_body(ifindex, route)
        self._change(f"add the route to {route}", _NEWROUTE, body, flags=_NLM_F_CREATE_NEW)

    def delete_route(self, ifindex: int, route: Route) -> None:
        self._change(f"remove the route to {route}", _DELROUTE, _route_body(ifindex, route))

    def outgoing_link(self, destination: IPAddress) -> int | None:
        """Index of the link that packets to an address leave by; None where there is no route."""
        way = self.way_to(destination)
        return None if way is None else way.ifindex

    def gateway_to(self, destination: IPAddress) -> Gateway | None:
        """The next hop on the way there; None where there is no route, or one without a gateway of the same
        family."""
        way = self.way_to(destination)
        if way is None or way.gateway is None or way.source is None:
            return None
        return Gateway(way.gateway, way.source, way.ifindex)

    def way_to(
        self, destination: IPAddress, *, source: IPAddress | None = None, ifindex: int = 0, mark: int = 0
    ) -> Way | None:
        """The kernel's choice, by routes and rules; None where there is no route. source: the packets leave
        with it. ifindex: they leave by that link; 0: any. mark: their fwmark."""
        family, length = _FAMILIES[destination.version], destination.max_prefixlen
        head = _RTMSG.pack(family, length, 0 if source is None else length, 0, 0, 0, 0, 0, 0)
        body = head + _attribute(_RTA_DST, destination.packed)
        if source is not None:
            body += _attribute(_RTA_SRC, source.packed)
        for kind, number in ((_RTA_OIF, ifindex), (_RTA_MARK, mark)):
            body += _attribute(kind, number.to_bytes(4, "little")) if number else b""
        what = f"find the route to {destination}"
        self._send(what, _GETROUTE, body, _NLM_F_ACK)
        try:
            answers = [content for kind, content in self._answers(what) if kind == _NEWROUTE]
        except RtnetlinkError as error:
            if error.error_number in NO_ROUTE:
                return None
            raise
        return _way_of(answers[0]) if answers else None

    # Requests

    def _change(self, what: str, kind: int, body: bytes, *, flags: int = 0) -> None:
        self._send(what, kind, body, _NLM_F_ACK | flags)
        for _ in self._answers(what):
            continue

    def dump(self, what: str, kind: int, answer: int, body: bytes) -> list[bytes]:
        """The bodies of all objects of a kind. kind, answer: RTM_GET... and RTM_NEW...; body: its header."""
        self._send(what, kind, body, _NLM_F_DUMP)
        return [content for found, content in self._answers(what) if found == answer]

    def _send(self, what: str, kind: int, body: bytes, flags: int) -> None:
        self._sequence += 1
        length = _HEADER.size + len(body)
        header = _HEADER.pack(length, kind, _NLM_F_REQUEST | flags, self._sequence, 0)
        try:
            self._socket.send(header + body)
        except OSError as error:
            raise RtnetlinkError(what, error.errno or 0) from error

    def _answers(self, what: str) -> Iterator[tuple[int, bytes]]:
        """(type, body) of each message up to the end of the answer to the last request."""
        interrupted = False
        while True:
            try:
                data = self._socket.recv(_RECEIVE_LEN)
            except OSError as error:
                raise RtnetlinkError(what, error.errno or 0) from error
            while len(data) >= _HEADER.size:
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
                body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:  # of a request that was given up
                    continue
                interrupted = interrupted or bool(flags & _NLM_F_DUMP_INTR)
                if kind == _NLMSG_ERROR and (number := -int.from_bytes(body[:4], "little", signed=True)):
                    raise RtnetlinkError(what, number)
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    if interrupted:
                        raise DumpInterrupted(f"cannot {what}: the network configuration keeps changing")
                    return
                yield kind, body


def open_netlink() -> NetlinkSocket:
    """In the network namespace of this thread. Raises RtnetlinkError."""
    try:
        netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
    except OSError as error:
        raise RtnetlinkError("talk with the kernel's networking", error.errno or errno.EIO) from error
    return NetlinkSocket(netlink)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def read_attributes(data: bytes) -> dict[int, bytes]:
    """The attributes after a message's header, by kind."""
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _KIND_MASK] = data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
    return found


def _text(name: str) -> bytes:
    return os.fsencode(name) + b"\0"


def _link_of(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    attributes = read_attributes(body[_IFINFO.size :])
    return Link(
        ifindex=index,
        name=os.fsdecode(attributes[_IFLA_IFNAME].rstrip(b"\0")),
        up=bool(flags & _IFF_UP),
        mtu=int.from_bytes(attributes[_IFLA_MTU], "little"),
    )


def _address_of(body: bytes) -> LinkAddress:
    _, prefix_len, flags, _, index = _IFADDR.unpack_from(body)
    attributes = read_attributes(body[_IFADDR.size :])
    if _IFA_FLAGS in attributes:
        flags = int.from_bytes(attributes[_IFA_FLAGS], "little")
    ip = ipaddress.ip_address(attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS])
    reserved = flags & _RESERVED[ip.version] == _RESERVED[ip.version]
    return LinkAddress(
        index, InterfaceAddress(ip, prefix_len), usable=not flags & _IFA_F_UNUSABLE, reserved=reserved
    )


def _address_body(ifindex: int, address: InterfaceAddress) -> bytes:
    packed = address.ip.packed
    head = _IFADDR.pack(_FAMILIES[address.ip.version], address.prefix_len, 0, _SCOPE_UNIVERSE, ifindex)
    return head + _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)


def _route_body(ifindex: int, route: Route) -> bytes:
    destination = route.destination
    scope = _SCOPE_LINK if destination.version == 4 else _SCOPE_UNIVERSE
    head = _RTMSG.pack(
        *(_FAMILIES[destination.version], destination.prefixlen, 0, 0),
        *(_TABLE_MAIN, ROUTE_PROTOCOL, scope, _UNICAST, 0),
    )
    body = head + _attribute(_RTA_DST, destination.network_address.packed)
    body += _attribute(_RTA_OIF, ifindex.to_bytes(4, "little"))
    if route.source is not None:
        body += _attribute(_RTA_PREFSRC, route.source.packed)
    return body + _attribute(_RTA_PRIORITY, route.metric.to_bytes(4, "little"))


def _route_of(version: int, prefix_len: int, attributes: dict[int, bytes]) -> Route:
    target = attributes.get(_RTA_DST, bytes(4 if version == 4 else 16))
    source = attributes.get(_RTA_PREFSRC)
    return Route(
        ipaddress.ip_network((target, prefix_len)),
        None if source is None else ipaddress.ip_address(source),
        int.from_bytes(attributes.get(_RTA_PRIORITY, b""), "little"),
    )


def _way_of(body: bytes) -> Way | None:
    attributes = read_attributes(body[_RTMSG.size :])
    if _RTA_OIF not in attributes:
        return None
    gateway, source = attributes.get(_RTA_GATEWAY), attributes.get(_RTA_PREFSRC)
    return Way(
        int.from_bytes(attributes[_RTA_OIF], "little"),
        None if gateway is None else ipaddress.ip_address(gateway),
        None if source is None else ipaddress.ip_address(source),
    )
