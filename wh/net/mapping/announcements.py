"""Hearing that a gateway has restarted: what it sends to all hosts then (RFC 6886 3.2.1, RFC 6887 14.1.3)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from wh.net.opening import closed_on_error

GROUP = "224.0.0.1"
PORT = 5350
PAUSE_S = 5.0
"""Anybody on the link can send there: after each announcement nothing is read for a while."""
READS_AT_ONCE = 64
READ_LEN = 64


class Announcements:
    """Calls back with the sender's IPv4 address, as text. Nothing of what is said is believed: whoever calls
    it is to be asked."""

    def __init__(self, callback: Callable[[str], None]) -> None:
        """Raises OSError."""
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._socket = _open()
        self._loop.add_reader(self._socket, self._on_readable)

    def close(self) -> None:
        """No callback comes after this. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _on_readable(self) -> None:
        senders: set[str] = set()
        with contextlib.suppress(OSError):
            for _ in range(READS_AT_ONCE):
                senders.add(self._socket.recvfrom(READ_LEN)[1][0])
        self._loop.remove_reader(self._socket)
        self._timer = self._loop.call_later(PAUSE_S, self._loop.add_reader, self._socket, self._on_readable)
        for sender in senders:
            self._callback(sender)


def _open() -> socket.socket:
    """Every host is in that group; other programs may listen to it too."""
    with closed_on_error(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as opened:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((GROUP, PORT))
    return opened
