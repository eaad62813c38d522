"""Packets of several flows, orderly and not, and what coalescing must keep of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from ip_packets import (
    ACK,
    FIN,
    MORE_FRAGMENTS,
    PSH,
    TCP,
    TIMESTAMPS,
    UDP,
    Packet,
)

from whcore.offload import coalesce, split

ICMPV6 = 58

NEXT = "next"


class Mix:
    """Flows of every kind, taken packet by packet."""

    V6 = (bytes(15) + b"\1", bytes(15) + b"\2")
    FLOWS = (
        Packet(protocol=TCP, source_port=1, sequence=2**32 - 5000),
        Packet(protocol=UDP, source_port=2, identification=65530),
        Packet(protocol=TCP, source_port=3, source=V6[0], destination=V6[1]),
        Packet(protocol=UDP, source_port=4, source=V6[0], destination=V6[1]),
    )
    ODD = ("short", "push", "ack", "skip", "corrupt", "fin", "fragment", "junk")

    def __init__(self, size: int, fragment: int) -> None:
        """size: of most payloads. fragment: the IPv4 flags."""
        self._flows = [replace(flow, fragment=fragment, tcp_options=TIMESTAMPS) for flow in self.FLOWS]
        self._size = size

    def take(self, flow: int, kind: str, number: int) -> bytes:
        """The next packet of a flow. kind: NEXT or one of ODD. number: what makes it differ from others."""
        if kind == "junk":
            return random.Random(number).randbytes(number % 100)
        state = self._flows[flow]
        size = {"short": number % self._size, "ack": 0}.get(kind, self._size)
        packet = replace(
            state,
            payload=random.Random(number).randbytes(size),
            flags=ACK | {"push": PSH, "fin": FIN}.get(kind, 0),
            fragment=MORE_FRAGMENTS if kind == "fragment" else state.fragment,
        )
        gap = 1 if kind == "skip" else 0
        self._flows[flow] = replace(
            state, sequence=state.sequence + size + gap, identification=state.identification + 1
        )
        made = bytearray(bytes(packet))
        if kind == "corrupt":
            made[number % len(made)] ^= 1 << number % 8
        return bytes(made)


def coalesced_and_split(packets: Sequence[bytes]) -> list[bytes]:
    """What comes out of the frames that the packets become."""
    return [
        packet
        for header, frame in coalesce(packets)
        for packet in (split(header, frame) if any(header) else [frame])
    ]


def flow_of(packet: bytes) -> bytes | None:
    """Protocol, addresses and ports, or None where they cannot be told and any flow may be meant."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        protocol, ports_at = packet[9], 20
        fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF
        if protocol in (TCP, UDP) and (fragment or packet[0] != 0x45):
            return None
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        protocol, ports_at = packet[6], 40
        if protocol not in (TCP, UDP, ICMPV6):  # maybe an extension header
            return None
    else:
        return None
    if protocol not in (TCP, UDP):
        return bytes((protocol,))
    if len(packet) < ports_at + 8:
        return None
    return bytes((protocol,)) + packet[12 if ports_at == 20 else 8 : ports_at + 4]


def check_same_packets(sent: Sequence[bytes], received: Sequence[bytes]) -> None:
    """Raise AssertionError unless each packet arrived, and each flow in order."""
    assert sorted(received) == sorted(sent)
    for flow in {flow_of(packet) for packet in sent}:
        assert _of_flow(received, flow) == _of_flow(sent, flow)


def _of_flow(packets: Sequence[bytes], flow: bytes | None) -> list[bytes]:
    return [packet for packet in packets if flow_of(packet) in (flow, None)]
