"""A stream to any TCP program: FIN ends a direction, and all is well once the other kernel has everything."""

from __future__ import annotations

import contextlib
import socket

from wh.streams.connection import LOST_AFTER_S, pending_loss, wait_for_acknowledgement
from wh.streams.failure import End, StreamFailure
from wh.streams.stream import BUFFER_LEN, Stream


class PlainStream(Stream):
    def _send_end(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            if self._drops:  # nobody reads what may come
                self._connection.shutdown(socket.SHUT_RD)

    def _receive(self) -> None:
        view = memoryview(bytearray(BUFFER_LEN))
        while taken := self._take(view):
            self._write(view[:taken])
        self._close_sink()
        self._peer_has_no_more()

    def _say_goodbye(self) -> None:
        """What the other kernel has not acknowledged may be lost, and nobody else would notice."""
        if wait_for_acknowledgement(self._connection, LOST_AFTER_S):
            self._failure = pending_loss(self._connection)
        else:
            self._failure = StreamFailure(End.LOST, "the other end takes no more")
