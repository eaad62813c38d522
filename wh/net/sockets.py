"""The UDP sockets of a node: one an address family, both on one port (docs/protocol.md section 1)."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from contextlib import suppress

from wh.errors import Code, SystemSetupError
from wh.net.opening import closed_on_error, is_no_ipv6, one_a_family, refused_port

# Linux values that the socket module does not name (linux/in.h, linux/in6.h).
IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_PMTUDISC_PROBE = 3
IPV6_MTU_DISCOVER = 23
IPV6_PMTUDISC_PROBE = 3
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

BUFFER_LEN = 4 * 1024 * 1024
"""Bytes that the kernel may hold for us in each direction: about 10 ms of traffic at 3 Gbit/s."""

RANDOM_PORT_MIN = 1024
RANDOM_PORT_TRIES = 64


def open_udp_sockets(port: int) -> list[socket.socket]:
    """Non-blocking sockets bound to any address: AF_INET, then AF_INET6 (V6ONLY) where the host has IPv6.

    port 0: a random one of 1024 to 65535 that is free in both families. Packet info is on: the data plane
    answers WireGuard handshakes from the address that was written to. The sockets never fragment nor obey a
    path MTU that an ICMP message claims (PROBE). Raises SystemSetupError.
    """
    if port:
        try:
            return _open_pair(port)
        except OSError as error:
            raise _explain(error, port) from error
    failure = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    for _ in range(RANDOM_PORT_TRIES):
        candidate = RANDOM_PORT_MIN + secrets.randbelow(0x10000 - RANDOM_PORT_MIN)
        try:
            return _open_pair(candidate)
        except OSError as error:
            failure = error
            if error.errno != errno.EADDRINUSE:
                break
    raise _explain(failure, 0) from failure


def open_udp_socket(family: int) -> socket.socket:
    """One more such socket, on a free port. family: 4 or 6. Raises SystemSetupError."""
    try:
        return _open_v4(0) if family == 4 else _open_v6(0)
    except OSError as error:
        if family == 6 and is_no_ipv6(error):
            raise SystemSetupError("this host has no IPv6") from error
        raise _explain(error, 0) from error


def _open_pair(port: int) -> list[socket.socket]:
    return one_a_family(lambda family: _open_v4(port) if family == socket.AF_INET else _open_v6(port))


def _open_v4(port: int) -> socket.socket:
    with closed_on_error(_new_socket(socket.AF_INET)) as udp:
        udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        udp.bind(("0.0.0.0", port))  # noqa: S104 - a node is reached on whatever address its host has
    return udp


def _open_v6(port: int) -> socket.socket:
    with closed_on_error(_new_socket(socket.AF_INET6)) as udp:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        udp.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        udp.bind(("::", port))
    return udp


def _new_socket(family: socket.AddressFamily) -> socket.socket:
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    set_buffer(udp, SO_RCVBUFFORCE, socket.SO_RCVBUF, BUFFER_LEN)
    set_buffer(udp, SO_SNDBUFFORCE, socket.SO_SNDBUF, BUFFER_LEN)
    return udp


def set_buffer(udp: socket.socket, forced: int, plain: int, length: int) -> None:
    """Without CAP_NET_ADMIN: as much as net.core.rmem_max or wmem_max allows."""
    try:
        udp.setsockopt(socket.SOL_SOCKET, forced, length)
    except OSError:
        with suppress(OSError):
            udp.setsockopt(socket.SOL_SOCKET, plain, length)


def _explain(error: OSError, port: int) -> SystemSetupError:
    if error.errno == errno.EADDRINUSE and not port:
        return SystemSetupError(
            "no free UDP port was found", code=Code.PORT_TAKEN, hint="name one with --listen-port"
        )
    return refused_port(error, "UDP", port, "with --listen-port") or SystemSetupError(
        f"cannot open a UDP socket: {error.strerror or error}"
    )
