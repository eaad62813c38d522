"""The gateway worker's process: one at a time, and never for long."""

from __future__ import annotations

import os
import signal
import socket
import time

from wh.errors import Code, SystemSetupError
from wh.system.python import NOWHERE, python_module, spawn

LIFE_S = 10.0
"""Longer than anybody waits for its answer (wh.net.mapping.igd)."""


class GatewayWorker:
    """start() it, expire() it when its time has come, end() it."""

    def __init__(self) -> None:
        self._pid = 0
        self._ends_at = 0.0

    def start(self) -> socket.socket:
        """Our end of a stream to its standard input and output. Raises SystemSetupError."""
        self.end()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._pid = _spawn(theirs.fileno())
            except OSError as error:
                ours.close()
                raise SystemSetupError(
                    f"cannot start a process: {error.strerror}", code=Code.NETWORK_SETUP
                ) from error
        self._ends_at = time.monotonic() + LIFE_S
        return ours

    def time_left_s(self) -> float | None:
        """Until it has to end; None: there is none."""
        return max(0.0, self._ends_at - time.monotonic()) if self._pid else None

    def expire(self) -> None:
        """End it where its time is over; forget it where it has ended."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = 0
        elif self.time_left_s() == 0:
            self.end()

    def end(self) -> None:
        """Idempotent."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def _spawn(fd: int) -> int:
    return spawn(python_module("wh.net.mapping.igd_worker"), {0: fd, 1: fd, 2: NOWHERE})
