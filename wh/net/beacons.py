"""BEACON datagrams by multicast, out of and into the LANs of this host (docs/protocol.md section 1)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import time
from collections.abc import Callable

from wh.config.model import DEFAULT_PORT
from wh.engine.events import Key
from wh.engine.limits import RateLimit
from wh.errors import SystemSetupError
from wh.net.links.host import host_link_addresses
from wh.net.links.rtnetlink import LinkAddress
from wh.wire.address import Address, pack

GROUP_V4 = "239.255.87.72"
GROUP_V6 = "ff12::8000:5748"
"""Of link-local scope, chosen by us (RFC 3307, 4.3; RFC 2365, 6.1: this LAN)."""

PORT = DEFAULT_PORT
HEADER = b"\xff\x02\x07\x00"
KEY_LEN = 32
BEACON_LEN = len(HEADER) + KEY_LEN + 2

HEARD_BURST = 50
HEARD_INTERVAL_S = 0.05
READS_AT_ONCE = 32
_IP_MULTICAST_ALL = 49  # linux/in.h
_IPV6_MULTICAST_ALL = 29  # linux/in6.h
_MREQN = struct.Struct("=4s4si")  # ip_mreqn: group, address, index
_MREQ6 = struct.Struct("=16si")  # ipv6_mreq: group, index


class Beacons:
    """open() needs a running loop. Whatever a system refuses, we do without."""

    def __init__(self, key: Key, listen_port: int, heard: Callable[[Key, Address], None]) -> None:
        self._beacon = HEADER + key + listen_port.to_bytes(2, "big")
        self._key = key
        self._heard = heard
        self._limit = RateLimit(HEARD_BURST, HEARD_INTERVAL_S, entries_max=1)
        self._sockets: dict[int, socket.socket] = {}  # by IP version
        self._joined: set[tuple[int, int]] = set()  # IP version, index of a link

    def open(self) -> None:
        for version, family, group in ((4, socket.AF_INET, GROUP_V4), (6, socket.AF_INET6, GROUP_V6)):
            with contextlib.suppress(OSError):
                self._sockets[version] = _listening(family, group)
        for listener in self._sockets.values():
            asyncio.get_running_loop().add_reader(listener, self._on_readable, listener)
        self._join(_link_addresses())

    def close(self) -> None:
        for listener in self._sockets.values():
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._sockets.clear()

    def send(self) -> None:
        """From every address of every LAN."""
        links = _link_addresses()
        self._join(links)
        for link in links:
            with contextlib.suppress(OSError):
                _send_from(link, self._beacon)

    def _join(self, links: list[LinkAddress]) -> None:
        for link in links:
            version = link.address.ip.version
            if version in self._sockets and (version, link.ifindex) not in self._joined:
                with contextlib.suppress(OSError):  # of a link without multicast; or joined before
                    _join_group(self._sockets[version], version, link.ifindex)
                self._joined.add((version, link.ifindex))

    def _on_readable(self, listener: socket.socket) -> None:
        for _ in range(READS_AT_ONCE):
            try:
                data, source = listener.recvfrom(2048)
            except OSError:
                return
            if self._limit.allow(None, time.monotonic()):
                self._take_untrusted(data, source[0])

    def _take_untrusted(self, data: bytes, source: str) -> None:
        if len(data) != BEACON_LEN or not data.startswith(HEADER):
            return
        key, port = data[len(HEADER) : -2], int.from_bytes(data[-2:], "big")
        ip = ipaddress.ip_address(source.partition("%")[0])
        if key != self._key and port and not (ip.version == 6 and ip.is_link_local):
            self._heard(key, pack(ip, port))


def _listening(family: socket.AddressFamily, group: str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # others of this host listen too
        if family == socket.AF_INET:
            listener.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        else:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        listener.bind((group, PORT))
    except OSError:
        listener.close()
        raise
    return listener


def _join_group(listener: socket.socket, version: int, ifindex: int) -> None:
    if version == 4:
        request = _MREQN.pack(socket.inet_aton(GROUP_V4), bytes(4), ifindex)
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    else:
        request = _MREQ6.pack(socket.inet_pton(socket.AF_INET6, GROUP_V6), ifindex)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)


def _send_from(link: LinkAddress, beacon: bytes) -> None:
    """One hop far. Raises OSError."""
    ip = link.address.ip
    if ip.version == 4:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            out = _MREQN.pack(bytes(4), ip.packed, link.ifindex)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, out)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            sender.bind((str(ip), 0))
            sender.sendto(beacon, (GROUP_V4, PORT))
    else:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.ifindex)
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
            sender.bind((str(ip), 0))
            sender.sendto(beacon, (GROUP_V6, PORT))


def _link_addresses() -> list[LinkAddress]:
    try:
        return host_link_addresses()
    except SystemSetupError:
        return []
