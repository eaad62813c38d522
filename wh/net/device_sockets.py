"""The UDP sockets of one data plane, one an address family, as the configuration protocol sees them."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable

from wh.errors import SystemSetupError
from wh.net.sockets import open_udp_sockets
from whcore.datapath import Datapath


class DeviceSockets:
    """The `device` of whcore.uapi. The data plane owns the sockets; one thread uses this object at a time."""

    def __init__(
        self, datapath: Datapath, *, prepare: Callable[[socket.socket], None] = lambda udp: None
    ) -> None:
        """prepare: sets further options of each new socket."""
        self.listen_port = 0
        self.fwmark = 0
        self._datapath = datapath
        self._prepare = prepare
        self._sockets: dict[int, tuple[int, int]] = {}  # AF_INET or AF_INET6 -> number in the data plane, fd

    def open(self, port: int) -> None:
        """Replace the sockets by ones bound to another port, 0: any. Raises SystemSetupError, with the old
        ones still in use."""
        opened = open_udp_sockets(port)
        try:
            for udp in opened:
                self._prepare(udp)
                if self.fwmark:
                    _mark(udp, self.fwmark)
        except OSError as error:
            for udp in opened:
                udp.close()
            raise SystemSetupError(f"cannot prepare a UDP socket: {error.strerror}") from error
        for number, _ in self._sockets.values():
            self._datapath.remove_socket(number)
        self._sockets.clear()
        for udp in opened:  # in the order of families as before: the numbers, which paths are made of, stay
            self.listen_port = udp.getsockname()[1]
            family, fd = udp.family, udp.detach()
            self._sockets[family] = (self._datapath.add_socket(fd), fd)

    def numbers(self) -> tuple[tuple[int, int], ...]:
        """Number in the data plane, and IP version, of each."""
        return tuple(
            (number, 4 if family == socket.AF_INET else 6) for family, (number, _) in self._sockets.items()
        )

    # The device of whcore.uapi: raises OSError only.

    def bind(self, port: int) -> None:
        if port and port == self.listen_port:
            return
        try:
            self.open(port)
        except SystemSetupError as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from error
            raise OSError(errno.EIO, str(error)) from error

    def set_fwmark(self, mark: int) -> None:
        for family, (_, fd) in self._sockets.items():
            # A duplicate, so that the wrapper's close leaves the data plane's fd alone.
            with socket.socket(family, socket.SOCK_DGRAM, fileno=os.dup(fd)) as udp:
                _mark(udp, mark)
        self.fwmark = mark

    def socket_for(self, v4: bool) -> int:
        found = self._sockets.get(socket.AF_INET if v4 else socket.AF_INET6)
        if found is None:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return found[0]


def _mark(udp: socket.socket, mark: int) -> None:
    """mark: 32 bits; setsockopt with a number takes 31 of them."""
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
