"""A TCP transfer between two hosts, of a given length at least, until its owner ends it; checked by hash."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable

from inside import inside
from labnet import Host, wait_until

BLOCK_LEN = 1 << 20
BLOCKS = 16
"""Different ones, in turn, so that a lost or repeated block shows."""
PORT = 5000


class Transfer:
    """From source to target, in two threads, from construction on."""

    def __init__(
        self, source: Host, target: Host, address: str, length: int, *, silence_s: float = 60.0
    ) -> None:
        """address: the target's, as the source's programs reach it. length: bytes, at the least. silence_s:
        without a byte for so long it has failed."""
        self.sent = 0
        self.received = 0
        self._length = length
        self._silence_s = silence_s
        self._finish = threading.Event()
        self._errors: list[BaseException] = []
        self._hashes = [hashlib.blake2b(), hashlib.blake2b()]
        self._blocks = [random.Random(n).randbytes(BLOCK_LEN) for n in range(BLOCKS)]
        self._listener = inside(target, lambda: socket.create_server(("", PORT)))
        self._listener.settimeout(silence_s)
        self._source_end = inside(source, lambda: socket.create_connection((address, PORT), silence_s))
        self._threads = [
            threading.Thread(target=self._guarded, args=(each,), daemon=True)
            for each in (self._receive, self._send)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_more(self, length: int) -> None:
        """Until so many more bytes have arrived. Raises what went wrong with the transfer."""
        goal = self.received + length
        wait_until(lambda: self._checked().received >= goal, self._silence_s, f"{length:,} more bytes arrive")

    def finish(self) -> None:
        """Let it come to its end, and check it. Raises what went wrong with it."""
        self._finish.set()
        for thread in self._threads:
            thread.join()
        self._checked()
        sent, received = (each.digest() for each in self._hashes)
        assert (self.sent, sent) == (self.received, received), "what arrived is not what was sent"

    def _checked(self) -> Transfer:
        if self._errors:
            raise self._errors[0]
        return self

    def _guarded(self, part: Callable[[], None]) -> None:
        try:
            part()
        except BaseException as error:  # told to the owner
            self._errors.append(error)

    def _send(self) -> None:
        with self._source_end as connection:
            while self.sent < self._length or not self._finish.is_set():
                block = self._blocks[self.sent // BLOCK_LEN % BLOCKS]
                connection.sendall(block)
                self._hashes[0].update(block)
                self.sent += len(block)

    def _receive(self) -> None:
        with self._listener:
            connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(self._silence_s)
            while chunk := connection.recv(BLOCK_LEN):
                self._hashes[1].update(chunk)
                self.received += len(chunk)
