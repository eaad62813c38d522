"""Mutated TUN frames and batches of packets through the splitter and the coalescer (`make asan`).

The same seed always does the same. A crash is the sanitizer's to report; a wrong answer ends the run with the
round that gave it.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable

from ip_packets import GSO_ECN, GSO_NONE, NEEDS_CSUM, VNET, Packet, vnet_header
from packet_mix import NEXT, Mix, check_same_packets, coalesced_and_split

from whcore.errors import BadPacket
from whcore.offload import split

BATCH_MAX = 150
"""More than the groups that a coalescer holds at a time."""

INTERESTING = (
    0,
    1,
    2,
    6,
    8,
    16,
    17,
    19,
    20,
    27,
    28,
    39,
    40,
    60,
    127,
    255,
    1400,
    0x7FFF,
    0x8000,
    0xFFFE,
    0xFFFF,
)


def flip_bits(data: bytearray, source: random.Random) -> None:
    for _ in range(source.randrange(1, 5)):
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def flip_header_bits(data: bytearray, source: random.Random) -> None:
    data[source.randrange(min(len(data), 64))] ^= 1 << source.randrange(8)


def set_interesting_word(data: bytearray, source: random.Random) -> None:
    at = source.randrange(min(len(data), 64))
    data[at : at + 2] = source.choice(INTERESTING).to_bytes(2, "big")


def truncate(data: bytearray, source: random.Random) -> None:
    del data[source.randrange(len(data)) :]


def truncate_near_headers(data: bytearray, source: random.Random) -> None:
    del data[source.randrange(80) :]


def shorten(data: bytearray, source: random.Random) -> None:
    """Truncate near the headers, and let the IP header say so: what is inside is then looked at."""
    del data[source.randrange(20, 90) :]
    ipv4 = data[0] >> 4 == 4
    if ipv4 and len(data) >= 20:
        data[2:4] = len(data).to_bytes(2, "big")
    elif len(data) >= 40:
        data[4:6] = (len(data) - 40).to_bytes(2, "big")


def extend(data: bytearray, source: random.Random) -> None:
    data += source.randbytes(source.randrange(1, 50))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    flip_header_bits,
    set_interesting_word,
    truncate,
    truncate_near_headers,
    shorten,
    shorten,
    extend,
)


def mutated(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for mutation in source.choices(MUTATIONS, k=source.randrange(1, 4)):
        if changed:
            mutation(changed, source)
    return bytes(changed)


def a_header(packet: Packet, frame_len: int, source: random.Random) -> bytes:
    """A virtio header that fits the packet, but for a field or two."""
    fields = list(VNET.unpack(vnet_header(packet, source.randrange(1, 3000))))
    for _ in range(source.randrange(3)):
        at = source.randrange(len(fields))
        limit = 255 if at < 2 else 65535
        near_end = max(0, frame_len - source.randrange(24))
        values = (*INTERESTING, NEEDS_CSUM, GSO_ECN | 1, source.randrange(200), near_end, near_end)
        fields[at] = source.choice(values) & limit
    if source.random() < 0.2:
        fields[1] = GSO_NONE
    return VNET.pack(*fields)


def split_a_frame(source: random.Random) -> None:
    payload = source.randbytes(source.choice((0, 1, 100, 3000, source.randrange(60_000))))
    extensions = ((0, b"\0\0\1\4\0\0\0\0"),) * source.randrange(3)
    flow = source.choice(Mix.FLOWS)
    packet = Packet(
        protocol=flow.protocol,
        source=flow.source,
        destination=flow.destination,
        payload=payload,
        extensions=extensions,
        tcp_options=bytes(4 * source.randrange(11)),
        flags=source.randrange(256),
    )
    frame = packet.partial()
    if source.random() < 0.7:
        frame = mutated(frame, source)
    try:
        made = split(a_header(packet, len(frame), source), frame)
    except BadPacket:
        return
    assert made
    assert all(0 < len(segment) <= len(frame) for segment in made)


def coalesce_a_batch(source: random.Random) -> None:
    # Without DF: packets with it may swap their identifications.
    mix = Mix(size=source.randrange(1, 1400), fragment=0)
    odd = source.random() / 2
    sent = []
    for _ in range(source.randrange(1, BATCH_MAX)):
        kind = source.choice(Mix.ODD) if source.random() < odd else NEXT
        packet = mix.take(source.randrange(len(Mix.FLOWS)), kind, source.randrange(2**16))
        if source.random() < odd / 2:
            packet = mutated(packet, source)
        sent.append(packet)
        if source.random() < odd / 4:
            sent.append(source.choice(sent))
    check_same_packets(sent, coalesced_and_split(sent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=500)
    options = parser.parse_args()
    for number in range(options.rounds):
        source = random.Random(f"{options.seed} {number}")
        try:
            split_a_frame(source)
            coalesce_a_batch(source)
        except AssertionError as error:
            sys.exit(f"seed {options.seed}, round {number}: {error}")
    print(f"{options.rounds} rounds")


if __name__ == "__main__":
    main()
