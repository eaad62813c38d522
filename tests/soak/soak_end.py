"""One end of the soak: a host, its console process, and what it is told."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from labnet import Host, LabError
from process_stat import tcp_counters

CONSOLE = Path(__file__).with_name("soak_console.py")
PORT = 51820
ANSWER_TIMEOUT_S = 20.0
QUEUE_LEN = 5000
"""Packets that may wait to be read from the TUN: more than TCP_WINDOW_MAX makes of both directions. The
kernel drops what does not fit, and such a loss would be TCP's own."""

TCP_WINDOW_MAX = 2 * 1024 * 1024
"""Bytes. Less than a UDP socket of ours buffers, so that TCP cannot overrun the tunnel either."""


class End:
    """A device of ours with the inner address `inner`, reachable at the outer addresses of its host."""

    def __init__(self, host: Host, interface: str, inner: str, outer: tuple[str, ...]) -> None:
        self.host = host
        self.interface = interface
        self.inner = inner
        self.outer = outer
        self._log = host.directory / "console.log"
        with self._log.open("w") as stream:
            self._console = host.popen(
                [sys.executable, CONSOLE, interface, str(PORT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream.fileno(),
            )
        self.key = self.tell("key")
        host.ip("address", "add", f"{inner}/24", "dev", interface)
        host.ip("link", "set", interface, "txqueuelen", str(QUEUE_LEN), "up")

    @property
    def pid(self) -> int:
        return self._console.pid

    def tell(self, *words: object) -> str:
        """One command; returns the answer. Raises LabError where none comes."""
        stdin, stdout = self._console.stdin, self._console.stdout
        if stdin is None or stdout is None:
            raise LabError("the console was started without pipes")
        line = " ".join(map(str, words))
        try:
            stdin.write(line + "\n")
            stdin.flush()
        except BrokenPipeError as error:
            raise LabError(f"{self.host.name} has ended before `{line}`\n{self._log.read_text()}") from error
        ready, _, _ = select.select([stdout], [], [], ANSWER_TIMEOUT_S)
        answer = stdout.readline().strip() if ready else ""
        if not answer:
            raise LabError(f"{self.host.name} does not answer `{line}`\n{self._log.read_text()}")
        return answer

    def stats(self, peer: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.tell("stats", peer))
        return answer

    def tcp(self) -> dict[str, int]:
        """TCP's own counters in the host's namespace."""
        return tcp_counters(self.pid)
