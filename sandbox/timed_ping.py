"""Pings with the time of every answer: how soon the first one comes, how long none does, what is lost."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from labnet import Host, wait_until

_REPLY = re.compile(r"^\[([\d.]+)\] .*icmp_seq=(\d+) .*time=([\d.]+) ms", re.MULTILINE)
_DUPLICATE = re.compile(r"^\[[\d.]+\] .*\(DUP!\)\n", re.MULTILINE)


@dataclass(frozen=True)
class Reply:
    number: int  # icmp_seq, from 1 on
    sent: float  # Unix seconds
    arrived: float


class TimedPing:
    """A ping by name in the background."""

    _count = 0

    def __init__(self, host: Host, peer: str, *, interval_s: float = 0.1) -> None:
        TimedPing._count += 1
        self._output = host.directory / f"ping-{peer}-{TimedPing._count}"
        self._interval_s = interval_s
        with self._output.open("w") as stream:
            self._process = host.popen(
                ["ping", "-4", "-D", "-n", f"-i{interval_s:g}", peer], stdout=stream.fileno()
            )

    def replies(self) -> list[Reply]:
        """In order of arrival, without duplicates."""
        text = _DUPLICATE.sub("", self._output.read_text())
        found = _REPLY.findall(text[: text.rfind("\n") + 1])
        return [Reply(int(number), float(at) - float(ms) / 1e3, float(at)) for at, number, ms in found]

    def wait_for_replies(self, more: int, deadline_s: float = 10.0) -> None:
        goal = len(self.replies()) + more
        wait_until(lambda: len(self.replies()) >= goal, deadline_s, f"{more} more ping answers")

    def stop(self) -> list[Reply]:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)
        return self.replies()

    def first_sent(self) -> float | None:
        """When the first packet went out, whether or not it was answered."""
        replies = self.replies()
        if not replies:
            return None
        first = min(replies, key=lambda reply: reply.number)
        return first.sent - (first.number - 1) * self._interval_s


def first_data_s(ping: TimedPing) -> float | None:
    """From the first packet until the first answer to any; None where none came."""
    sent = ping.first_sent()
    return min(reply.arrived for reply in ping.replies()) - sent if sent is not None else None


def longest_gap_s(replies: list[Reply]) -> float:
    """The longest time without an answer; at most that of the pings' interval is nobody's fault."""
    pairs = zip(replies, replies[1:], strict=False)
    return max((later.arrived - reply.arrived for reply, later in pairs), default=0.0)


def lost(replies: list[Reply]) -> int:
    """Of the packets between the first and the last that was answered."""
    numbers = {reply.number for reply in replies}
    return max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0


def farthest_overtaken(replies: list[Reply]) -> int:
    """How many packets after it the latest was, of those whose answers came before an earlier one's."""
    farthest = latest = 0
    for reply in replies:
        latest = max(latest, reply.number)
        farthest = max(farthest, latest - reply.number)
    return farthest


def median_rtt_s(replies: list[Reply]) -> float:
    times = sorted(reply.arrived - reply.sent for reply in replies)
    return times[len(times) // 2]
