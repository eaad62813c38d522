"""Sockets that the engine has opened beside the node's own, and for whom (wh.engine.commands.OpenSocket)."""

from __future__ import annotations

from collections.abc import Callable

from wh.engine.commands import CloseSocket, Command, OpenSocket
from wh.engine.events import Instant, SocketOpened

Opened = Callable[[int | None, int, Instant], None]
"""(socket, port, now); socket None where the system refused."""


class ExtraSockets:
    """Whoever opens a socket closes it."""

    def __init__(self, emit: Callable[[Command], None]) -> None:
        self._emit = emit
        self._waiting: dict[int, Opened | None] = {}  # request -> who asked; None: gave up waiting
        self._last_request = 0

    def open(self, family: int, opened: Opened) -> int:
        """Ask for one; `opened` follows, never before this returns. Gives a number for give_up()."""
        self._last_request += 1
        self._waiting[self._last_request] = opened
        self._emit(OpenSocket(self._last_request, family))
        return self._last_request

    def give_up(self, request: int) -> None:
        """Nobody wants that socket any more: it closes as soon as it is there."""
        if request in self._waiting:
            self._waiting[request] = None

    def opened(self, event: SocketOpened, now: Instant) -> None:
        if event.request not in self._waiting:
            return
        waiter = self._waiting.pop(event.request)
        if waiter is not None:
            waiter(event.socket, event.port, now)
        elif event.socket is not None:
            self.close(event.socket)

    def close(self, socket: int) -> None:
        """Nothing happens where it was adopted: it has another number then."""
        self._emit(CloseSocket(socket))
