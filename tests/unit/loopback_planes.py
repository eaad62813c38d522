"""Data planes over loopback, each with a socket pair in the place of its TUN: real threads, real UDP."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable

from whcore import datapath as core
from whcore.datapath import Datapath
from whcore.keys import SecretKey

DEADLINE_S = 10.0

RECEIVE_BUFFER_LEN = 4 * 1024 * 1024  # as wh.net.sockets sets it

V4_PREFIX = bytes(10) + b"\xff\xff"


def wire(host: str, port: int) -> bytes:
    return V4_PREFIX + socket.inet_aton(host) + port.to_bytes(2, "big")


def ipv4(source: str, destination: str, payload: bytes = b"x") -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, 17, 0)
    return header + socket.inet_aton(source) + socket.inet_aton(destination) + payload


def bound(family: socket.AddressFamily, host: str) -> socket.socket:
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((host, 0))
    return udp


class Node:
    """A data plane whose TUN is our end of a socket pair."""

    def __init__(self, address: str, *, mtu: int = 1408) -> None:
        self.address = address
        self.secret = SecretKey.generate()
        self.key = self.secret.public_key
        self.tun, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        device.setblocking(False)
        self.tun.settimeout(DEADLINE_S)
        self.plane = Datapath(self.secret, tun_fds=[device.detach()], mtu=mtu)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_LEN)
        udp.bind(("127.0.0.1", 0))
        self.port = udp.getsockname()[1]
        self.socket = self.plane.add_socket(udp.detach())
        self.plane.start()

    @property
    def remote(self) -> bytes:
        return wire("127.0.0.1", self.port)

    def knows(self, other: Node, *, managed: bool = False, path: bool = True) -> None:
        self.plane.add_peer(other.key, managed=managed)
        self.plane.add_allowed_ip(other.key, socket.inet_aton(other.address), 32)
        if path:
            self.plane.set_path(other.key, (self.socket, other.remote))

    def emit(self, other: Node, payload: bytes, *, source: str | None = None) -> bytes:
        packet = ipv4(source or self.address, other.address, payload)
        self.tun.send(packet)
        return packet

    def until(self, condition: Callable[[], object], what: str) -> None:
        give_up_at = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < give_up_at, f"{what}; counters {self.plane.counters()}"
            select.select([self.plane.event_fd], [], [], 0.01)

    def event(self, kind: int) -> tuple[object, ...]:
        found: list[tuple[object, ...]] = []

        def seen() -> bool:
            found.extend(event for event in self.plane.drain_events() if event[0] == kind)
            return bool(found)

        self.until(seen, f"event {kind}")
        return found[0]

    def control(self) -> core.ControlDatagram:
        """The one control datagram that arrives."""
        found: list[core.ControlDatagram] = []

        def arrived() -> bool:
            found.extend(self.plane.drain_control())
            return bool(found)

        self.until(arrived, "a control datagram")
        (datagram,) = found
        return datagram

    def close(self) -> None:
        self.plane.close()
        self.tun.close()
