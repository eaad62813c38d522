"""Addresses as on the wire: 16 bytes (IPv4 as ::ffff:a.b.c.d) and a big-endian port, in one 18-byte value.

The engine keeps addresses in this form everywhere: it is hashable, comparable, and already normalised.
"""

from __future__ import annotations

import ipaddress

Address = bytes
"""18 bytes: 16 of address, 2 of big-endian port."""

ADDRESS_LEN = 18
_V4_PREFIX = bytes(10) + b"\xff\xff"


def pack(host: str | ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> Address:
    """Raises ValueError where host is not a numeric address or port is out of 0..65535."""
    ip = ipaddress.ip_address(host)
    packed = _V4_PREFIX + ip.packed if ip.version == 4 else ip.packed
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"port {port} is not in 0..65535")
    return packed + port.to_bytes(2, "big")


def ip_of(address: Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if address[:12] == _V4_PREFIX:
        return ipaddress.IPv4Address(address[12:16])
    return ipaddress.IPv6Address(address[:16])


def port_of(address: Address) -> int:
    return int.from_bytes(address[16:18], "big")


def is_v4(address: Address) -> bool:
    return address[:12] == _V4_PREFIX


def to_text(address: Address) -> str:
    """`192.0.2.1:62096` or `[2001:db8::1]:62096`."""
    ip = ip_of(address)
    return f"{ip}:{port_of(address)}" if ip.version == 4 else f"[{ip}]:{port_of(address)}"


def prefix(address: Address, v4_bits: int, v6_bits: int) -> bytes:
    """The network an address counts in for limits, as a hashable value; both lengths in whole bytes."""
    return address[: 12 + v4_bits // 8] if is_v4(address) else address[: v6_bits // 8]


def is_private(address: Address) -> bool:
    """Private, link-local or otherwise not of the public Internet. Documentation ranges count as public: test
    networks use them."""
    ip = ip_of(address)
    if ip.version == 4:
        return ip.is_link_local or ip.is_loopback or any(ip in network for network in _PRIVATE_V4)
    return ip.is_link_local or ip.is_loopback or (ip.packed[0] & 0xFE) == 0xFC


def is_usable(address: Address, *, allow_loopback: bool = False) -> bool:
    """Whether a datagram may ever go there: not port 0, multicast, broadcast, unspecified or loopback."""
    if len(address) != ADDRESS_LEN or port_of(address) == 0:
        return False
    ip = ip_of(address)
    if ip.is_multicast or ip.is_unspecified:
        return False
    if ip.is_loopback:
        return allow_loopback
    return not (ip.version == 4 and (ip.packed[0] == 0 or ip.packed[0] >= 240))


_PRIVATE_V4 = tuple(
    ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")
)
