"""The relay service, slow and obvious: a dictionary of legs, and limits as exact fractions."""

import random
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from whcore.channels import DROP_REASONS, MIXED, UNPROVED_BYTES_MAX, Forwarded

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
BIT_31 = 1 << 31
HEADER_LEN = 8
UNLIMITED = float("inf")
Place = tuple[int, bytes]


def place(number: int, socket: int = 0) -> Place:
    return socket, bytes(10) + b"\xff\xff" + struct.pack(">IH", 0x0A000000 + number, 4000)


def header(channel: int) -> bytes:
    return b"\xff\x02\x05\x00" + struct.pack("<I", channel)


def datagram(channel: int, n: int, seed: int = 0) -> bytes:
    """n bytes in all, the payload looking like WireGuard data."""
    return header(channel) + (b"\x04\0\0\0" + random.Random(seed).randbytes(n))[: n - HEADER_LEN]


def cut(data: bytes, segment_len: int) -> list[bytes]:
    return [data[i : i + segment_len] for i in range(0, len(data), segment_len)]


@dataclass
class Bucket:
    """Tokens that really trickle in."""

    rate: int
    burst: int
    tokens: Fraction = Fraction(0)
    filled_at: int = 0

    def __post_init__(self) -> None:
        self.tokens = Fraction(self.burst)

    def room(self, now: int) -> float | Fraction:
        if not self.rate:
            return UNLIMITED
        self.tokens = min(
            Fraction(self.burst), self.tokens + Fraction((now - self.filled_at) * self.rate, SECOND)
        )
        self.filled_at = now
        return self.tokens


@dataclass
class Channel:
    ids: tuple[int, int]
    places: list[Place]
    bucket: Bucket
    quota: int
    trusted: bool
    last_at: list[int]
    proved: bool = False
    packets: list[int] = field(default_factory=lambda: [0, 0])
    bytes: list[int] = field(default_factory=lambda: [0, 0])
    drops: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROP_REASONS, 0))

    def status(self) -> tuple[Any, ...]:
        return (
            self.ids, tuple(self.places), self.proved, tuple(self.packets), tuple(self.bytes), self.drops,
            tuple(self.last_at),
        )  # fmt: skip


class Relay:
    """The same service, one datagram at a time."""

    def __init__(self) -> None:
        self.legs: dict[int, tuple[Channel, int]] = {}
        self.totals = Bucket(0, 0)
        self.day_quota = self.day_bytes = self.day_started_at = 0
        self.packets = self.bytes = 0
        self.drops = dict.fromkeys(DROP_REASONS, 0)

    def channels(self) -> list[Channel]:
        return [channel for channel, side in self.legs.values() if side == 0]

    def refusal(self, channel: Channel, side: int, n: int, now: int) -> str | None:
        if now - self.day_started_at >= DAY:
            self.day_started_at, self.day_bytes = now, 0
        rooms: list[tuple[float | Fraction, str]] = []
        if side == 0 and not channel.proved:
            rooms.append((UNPROVED_BYTES_MAX - channel.bytes[0], "unproved"))
        rooms.append((channel.bucket.room(now), "rate"))
        if channel.quota:
            rooms.append((channel.quota - sum(channel.bytes), "quota"))
        if not channel.trusted:
            rooms.append((self.totals.room(now), "rate"))
            if self.day_quota:
                rooms.append((max(self.day_quota - self.day_bytes, 0), "quota"))
        room, reason = min(rooms, key=lambda item: int(item[0]) if item[0] != UNLIMITED else UNLIMITED)
        return reason if n > room else None

    def charge(self, channel: Channel, side: int, n: int, now: int) -> None:
        channel.bucket.tokens -= n
        if not channel.trusted:
            self.totals.tokens -= n
            self.day_bytes += n
        channel.packets[side] += 1
        channel.bytes[side] += n
        channel.last_at[side] = now
        self.packets += 1
        self.bytes += n

    def forward(self, source: Place, segments: list[bytes], now: int) -> Forwarded | str:
        bad = self.bad_run(segments)
        if bad is not None:
            return bad if bad == MIXED else self.drop(bad, 1)
        word, id = struct.unpack_from("<4sI", segments[0])
        found = self.legs.get(id) if word == b"\xff\x02\x05\x00" else None
        if found is None:
            return self.drop("unknown", len(segments))
        channel, side = found
        if channel.places[side] != source:
            return self.drop("address", len(segments))
        channel.proved |= side == 1
        sent: list[bytes] = []
        for number, segment in enumerate(segments):
            reason = self.refusal(channel, side, len(segment), now)
            if reason is not None:
                channel.drops[reason] += len(segments) - number
                self.drop(reason, len(segments) - number)
                if not sent:
                    return reason
                break
            self.charge(channel, side, len(segment), now)
            sent.append(header(channel.ids[1 - side] | BIT_31) + segment[HEADER_LEN:])
        return Forwarded(*channel.places[1 - side], b"".join(sent))

    def bad_run(self, segments: list[bytes]) -> str | None:
        bad = [self.bad_segment(segment) for segment in segments]
        if len(segments) == 1:
            return bad[0]
        if any(reason in ("length", "nested") for reason in bad):
            return MIXED
        if len({segment[:HEADER_LEN] for segment in segments}) > 1:
            return MIXED
        return None

    def bad_segment(self, segment: bytes) -> str | None:
        if len(segment) < HEADER_LEN + 4:
            return "length"
        if segment[8:12] == b"\xff\x02\x05\x00":
            return "nested"
        return None

    def drop(self, reason: str, n: int) -> str:
        self.drops[reason] += n
        return reason
