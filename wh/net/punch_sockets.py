"""UDP sockets that hole punching adds beside the data plane's own, until one of them wins and is adopted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from wh.engine.events import PUNCH_SOCKETS_FROM
from wh.errors import SystemSetupError
from wh.net.sockets import open_udp_socket
from wh.wire.address import Address, ip_of, pack, port_of
from whcore.datapath import ControlDatagram

SOCKETS_MAX = 512
DATAGRAM_MAX = 2048
DATAGRAMS_PER_CALL = 16
CONTROL_MAGIC = b"\xff\x02"


class PunchSockets:
    """receive is told of every control datagram; all else that arrives is dropped: no data is due here."""

    def __init__(self) -> None:
        self.receive: Callable[[ControlDatagram], None] = lambda datagram: None
        self._sockets: dict[int, socket.socket] = {}
        self._last_id = PUNCH_SOCKETS_FROM

    def __contains__(self, number: int) -> bool:
        return number in self._sockets

    def __len__(self) -> int:
        return len(self._sockets)

    def open(self, family: int) -> tuple[int, int] | None:
        """The id and the port of a new socket; None where there are too many or the system refuses."""
        if len(self._sockets) >= SOCKETS_MAX:
            return None
        try:
            udp = open_udp_socket(family)
        except (SystemSetupError, OSError):
            return None
        self._last_id += 1
        self._sockets[self._last_id] = udp
        asyncio.get_running_loop().add_reader(udp.fileno(), self._on_readable, self._last_id)
        return self._last_id, udp.getsockname()[1]

    def close(self, number: int) -> None:
        if (udp := self.take(number)) is not None:
            udp.close()

    def close_all(self) -> None:
        for number in list(self._sockets):
            self.close(number)

    def take(self, number: int) -> socket.socket | None:
        """The socket is the caller's from now on."""
        udp = self._sockets.pop(number, None)
        if udp is not None:
            asyncio.get_running_loop().remove_reader(udp.fileno())
        return udp

    def send(self, number: int, remote: Address, datagram: bytes, ttl: int) -> bool:
        """ttl: hop limit, 0 for the system's. False where the system refused."""
        udp = self._sockets.get(number)
        if udp is None:
            return False
        v4 = udp.family == socket.AF_INET
        option = (socket.IPPROTO_IP, socket.IP_TTL) if v4 else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        try:
            if ttl:
                udp.setsockopt(*option, ttl)
            sent = udp.sendto(datagram, (str(ip_of(remote)), port_of(remote)))
        except OSError:
            return False
        finally:
            if ttl:
                with suppress(OSError):
                    udp.setsockopt(*option, -1)
        return sent == len(datagram)

    def _on_readable(self, number: int) -> None:
        udp = self._sockets[number]
        for _ in range(DATAGRAMS_PER_CALL):
            try:
                data, source = udp.recvfrom(DATAGRAM_MAX)
            except OSError:
                return
            if data.startswith(CONTROL_MAGIC):
                self.receive(ControlDatagram(number, pack(source[0].partition("%")[0], source[1]), data))
            if number not in self._sockets:  # whoever was told has closed it
                return
