"""Send hostile datagrams to a node and weigh its answers.

Standard input: one JSON object {"host", "port", "seed", "count", "public_key", "corpus"}, bytes as hex.
Standard output: one JSON object {"sent", "answered", "violations"}; a violation is a datagram whose answers
had more bytes than itself.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from collections import deque
from dataclasses import asdict, dataclass, field

from mutations import Source, hostile_datagrams

SOCKETS = 800
"""Each has one datagram under way, so that an answer can only belong to that one."""
BURST = 40
BURST_GAP_S = 0.002
LAST_ANSWERS_S = 1.0


class Probe:
    """A socket and the datagram it sent last."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.connect(target)
        self._socket.setblocking(False)
        self._sent = b""

    def collect(self) -> tuple[bytes, int]:
        """The last datagram, and how many bytes came back."""
        received = 0
        while True:
            try:
                received += len(self._socket.recv(65535))
            except BlockingIOError:
                return self._sent, received
            except ConnectionRefusedError:
                sys.exit("the target's port is closed")

    def send(self, datagram: bytes) -> None:
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            select.select([], [self._socket], [])
            self._socket.send(datagram)
        self._sent = datagram


@dataclass
class Report:
    sent: int = 0
    answered: int = 0
    violations: list[dict[str, object]] = field(default_factory=list)

    def weigh(self, probe: Probe) -> None:
        sent, received = probe.collect()
        self.answered += received > 0
        if received > len(sent):
            self.violations.append({"sent": sent.hex(), "received": received})


def main() -> None:
    order = json.load(sys.stdin)
    source = Source(
        order["seed"], [bytes.fromhex(text) for text in order["corpus"]], bytes.fromhex(order["public_key"])
    )
    probes = deque(Probe((order["host"], order["port"])) for _ in range(SOCKETS))
    report = Report()
    for datagram in hostile_datagrams(source, order["count"]):
        probe = probes[0]
        report.weigh(probe)
        probe.send(datagram)
        probes.rotate(-1)
        report.sent += 1
        if report.sent % BURST == 0:
            select.select([], [], [], BURST_GAP_S)
    select.select([], [], [], LAST_ANSWERS_S)
    for probe in probes:
        report.weigh(probe)
    json.dump(asdict(report), sys.stdout)


if __name__ == "__main__":
    main()
