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
"""Taken in turns: an answer mostly comes before its socket sends again."""
REMEMBERED = 8
"""Datagrams of a socket that a late answer may belong to. A busy machine answers late."""
BURST = 40
BURST_GAP_S = 0.002
LAST_ANSWERS_S = 1.0

RESPONSES = (b"\x02\0\0\0", b"\xff\x02\x02\0")
"""Handshake responses have their sender's index before the receiver's (docs/protocol.md section 2)."""
SENDER_INDEX_AT = 4
INDEX_LEN = 4


def returned_index(answer: bytes) -> bytes:
    """An answer's receiver index: the sender index of what it answers."""
    offset = 8 if answer.startswith(RESPONSES) else 4
    return answer[offset : offset + INDEX_LEN]


@dataclass(eq=False)
class Question:
    """A datagram, and the bytes that came back for it."""

    datagram: bytes
    received: int = 0

    def fits(self, answer: bytes) -> bool:
        index = self.datagram[SENDER_INDEX_AT : SENDER_INDEX_AT + INDEX_LEN]
        return index == returned_index(answer) and len(self.datagram) >= len(answer)


class Probe:
    """A socket and the last datagrams that it sent, the newest first."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.connect(target)
        self._socket.setblocking(False)
        self._questions: deque[Question] = deque(maxlen=REMEMBERED)

    def collect(self) -> list[Question]:
        """What was answered since the last call."""
        answered: list[Question] = []
        while True:
            try:
                answer = self._socket.recv(65535)
            except BlockingIOError:
                return answered
            except ConnectionRefusedError:
                sys.exit("the target's port is closed")
            question = next((each for each in self._questions if each.fits(answer)), self._questions[0])
            question.received += len(answer)
            answered.append(question)

    def send(self, datagram: bytes) -> None:
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            select.select([], [self._socket], [])
            self._socket.send(datagram)
        self._questions.appendleft(Question(datagram))


@dataclass
class Report:
    sent: int = 0
    answered: int = 0
    violations: list[dict[str, object]] = field(default_factory=list)

    def weigh(self, probe: Probe) -> None:
        for question in probe.collect():
            self.answered += 1
            if question.received > len(question.datagram):
                self.violations.append({"sent": question.datagram.hex(), "received": question.received})


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
