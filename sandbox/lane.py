"""One direction of a virtual wire, without the wire: frames and the time in, frames that are due out.

Every chance is drawn from a seeded generator, in the order of the frames: the same frames meet the same fate.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from heapq import heappop, heappush
from typing import Any

ETHERNET_LEN = 14
ETHERTYPE_IPV4 = b"\x08\x00"
IPPROTO_UDP = 17
UDP_HEADER_LEN = 8


@dataclass(frozen=True)
class Impairments:
    """What a lane does to frames. Chances are from 0 to 1, lengths are of the IP packet, without Ethernet."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Added to the delay: 0 up to this. Frames keep their order, so it is felt less at high rates."""
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """The chance to be held back by reorder_by_s, while later frames pass."""
    reorder_by_s: float = 0.005
    rate_bit_s: float = 0.0
    """0: unlimited."""
    queue_s: float = 0.1
    """What waits longer than this for the rate is dropped at its tail."""
    black_hole_over: int = 0
    """Longer packets disappear without a word. 0: none do."""
    corrupt: float = 0.0
    """The chance of one wrong bit in the payload of a UDP datagram over IPv4, which no checksum tells."""
    cut: bool = False
    """Nothing passes any more; what is under way still arrives."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"{field.name} is negative")
        for chance in (self.loss, self.duplicate, self.reorder, self.corrupt):
            if chance > 1:
                raise ValueError(f"{chance} is not a chance")


@dataclass
class LaneCounters:
    """Frames, from the start of the wire."""

    carried: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    queue_full: int = 0
    too_long: int = 0
    corrupted: int = 0
    cut: int = 0


def _udp_payload_offset(frame: bytes) -> int | None:
    """Of a whole UDP datagram with a payload, in an IPv4 packet in an Ethernet frame; else None."""
    if len(frame) < ETHERNET_LEN + 20 or frame[12:14] != ETHERTYPE_IPV4:
        return None
    fragment = int.from_bytes(frame[20:22], "big") & 0x3FFF  # more to come, or an offset
    payload = ETHERNET_LEN + (frame[14] & 15) * 4 + UDP_HEADER_LEN
    if frame[23] != IPPROTO_UDP or fragment or payload >= len(frame):
        return None
    return payload


class Lane:
    def __init__(self, impairments: Impairments, seed: str) -> None:
        self.counters = LaneCounters()
        self._rng = random.Random(seed)
        self._waiting: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._rate_free_at = 0.0
        self._last_due = 0.0
        self.change(impairments)

    def change(self, impairments: Impairments) -> None:
        """For frames that come from now on."""
        self.impairments = impairments
        self._plain = impairments == Impairments(delay_s=impairments.delay_s)
        self._delay_s = impairments.delay_s

    def alter(self, **changes: Any) -> None:
        self.change(replace(self.impairments, **changes))

    def push(self, frame: bytes, now: float) -> None:
        if self._plain:
            due = now + self._delay_s
            if due < self._last_due:
                due = self._last_due
            self._last_due = due
            self._schedule(due, frame)
        elif self._survives(frame):
            self._impair(self._perhaps_corrupted(frame), now)

    def due(self, now: float) -> list[bytes]:
        """The frames whose time has come, in order."""
        waiting, frames = self._waiting, []
        while waiting and waiting[0][0] <= now:
            frames.append(heappop(waiting)[2])
        self.counters.carried += len(frames)
        return frames

    @property
    def next_due(self) -> float | None:
        return self._waiting[0][0] if self._waiting else None

    def _survives(self, frame: bytes) -> bool:
        limits, counters = self.impairments, self.counters
        if limits.cut:
            counters.cut += 1
            return False
        if limits.black_hole_over and len(frame) - ETHERNET_LEN > limits.black_hole_over:
            counters.too_long += 1
            return False
        if limits.loss and self._rng.random() < limits.loss:
            counters.lost += 1
            return False
        return True

    def _impair(self, frame: bytes, now: float) -> None:
        limits, rng = self.impairments, self._rng
        leaves_at = self._through_the_rate(len(frame), now)
        if leaves_at is None:
            self.counters.queue_full += 1
            return
        due = leaves_at + limits.delay_s
        if limits.jitter_s:
            due += limits.jitter_s * rng.random()
        if limits.duplicate and rng.random() < limits.duplicate:
            self.counters.duplicated += 1
            self._schedule(max(due, self._last_due), frame)
        if limits.reorder and rng.random() < limits.reorder:
            self.counters.reordered += 1
            self._schedule(due + limits.reorder_by_s, frame)
            return
        self._last_due = max(due, self._last_due)
        self._schedule(self._last_due, frame)

    def _perhaps_corrupted(self, frame: bytes) -> bytes:
        if not self.impairments.corrupt or self._rng.random() >= self.impairments.corrupt:
            return frame
        payload = _udp_payload_offset(frame)
        if payload is None:
            return frame
        self.counters.corrupted += 1
        wrong = bytearray(frame)
        wrong[self._rng.randrange(payload, len(frame))] ^= 1 << self._rng.randrange(8)
        wrong[payload - 2 : payload] = bytes(2)  # the checksum: none
        return bytes(wrong)

    def _through_the_rate(self, frame_len: int, now: float) -> float | None:
        """When the frame's last bit has left, or None where the queue is full."""
        limits = self.impairments
        if not limits.rate_bit_s:
            return now
        starts_at = max(now, self._rate_free_at)
        if starts_at - now > limits.queue_s:
            return None
        self._rate_free_at = starts_at + frame_len * 8 / limits.rate_bit_s
        return self._rate_free_at

    def _schedule(self, due: float, frame: bytes) -> None:
        self._count += 1
        heappush(self._waiting, (due, self._count, frame))
