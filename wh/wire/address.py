"""Addresses as on the wire: 16 bytes (IPv4 as ::ffff:a.b.c.d) and a big-endian port, in one 18-byte value.

The engine keeps addresses in this form everywhere: it is hashable, comparable, and already normalised.
"""

from __future__ import annotations

import ipaddress

Address = bytes
"""18 bytes: 16 of address, 2 of big-endian port."""

ADDRESS_LEN = 18
V4_PREFIX = bytes(10) + b"\xff\xff"
_V6_LOOPBACK = bytes(15) + b"\x01"


def pack(host: str | ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> Address:
    """Raises ValueError where host is not a numeric address or port is out of 0..65535."""
    ip = ipaddress.ip_address(host)
    packed = V4_PREFIX + ip.packed if ip.version == 4 else ip.packed
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"port {port} is not in 0..65535")
    return packed + port.to_bytes(2, "big")


def ip_of(address: Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if address[:12] == V4_PREFIX:
        return ipaddress.IPv4Address(address[12:16])
    return ipaddress.IPv6Address(address[:16])


def port_of(address: Address) -> int:
    return int.from_bytes(address[16:18], "big")


def is_v4(address: Address) -> bool:
    return address[:12] == V4_PREFIX


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
    if not is_v4(address):
        return _is_loopback(address) or address[0] & 0xFE == 0xFC or _is_v6_link_local(address)
    first, second = address[12], address[13]
    return (
        first in (10, 127)
        or (first == 100 and second & 0xC0 == 64)
        or (first == 169 and second == 254)
        or (first == 172 and second & 0xF0 == 16)
        or (first == 192 and second == 168)
    )


def is_usable(address: Address, *, allow_loopback: bool = False) -> bool:
    """Whether a datagram may ever go there: not port 0, multicast, broadcast, unspecified or loopback."""
    if len(address) != ADDRESS_LEN or port_of(address) == 0:
        return False
    if _is_loopback(address):
        return allow_loopback
    if is_v4(address):
        return 0 < address[12] < 224
    return address[0] != 0xFF and address[:16] != bytes(16)


def _is_loopback(address: Address) -> bool:
    return address[12] == 127 if is_v4(address) else address[:16] == _V6_LOOPBACK


def _is_v6_link_local(address: Address) -> bool:
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80
