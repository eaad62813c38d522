"""What bench-data measures, one step after the other, on every implementation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import relay
from implementations import Implementation, Role
from labnet import Lab
from process_stat import peak_resident_kib, resident_kib
from traffic import Iperf, round_trip_ms
from tunnel import PORT, Device, Tunnel, make_wire
from uapi_client import invented_peers

PLOTTED_SIZES = (64, 128, 256, 512, 768, 1024, 1200, 1392)
"""Bytes of UDP payload, up to what an MTU of 1,420 carries. 64, 512 and 1,200 are also in the table."""

CROWD = 10_000
PEER_COUNTS = (1, 1_000, CROWD)
HANDSHAKE_PEERS = 1_000
HANDSHAKES_TIMEOUT_S = 120.0
HANDSHAKE_LOAD = Path(__file__).with_name("handshake_load.py")

Figures = dict[str, float]


@dataclass(frozen=True)
class Settings:
    seconds: int
    """Of each run of iperf3."""
    pings: int
    handshakes_per_peer: int
    seed: int


class Subject:
    """One implementation in one round: a tunnel with iperf3 in it, and a wire for devices without traffic."""

    def __init__(self, lab: Lab, implementation: Implementation, name: str, settings: Settings) -> None:
        """name: at most 14 characters, unique on the machine."""
        self.lab = lab
        self.implementation = implementation
        self.settings = settings
        self.name = name
        self.wire = make_wire(lab, name)
        self.tunnel = Tunnel(self.wire, implementation, name)
        self.iperf = Iperf(self.tunnel)

    def spare_device(self) -> Device:
        """One more process, beside those of the tunnel, which are idle meanwhile."""
        self.tunnel.stop()
        return Device(self.wire.far, self.implementation, f"{self.name}s")


def tcp_one_stream(subject: Subject) -> Figures:
    transfer = subject.iperf.tcp(subject.settings.seconds)
    return {"tcp_1": transfer.megabits_per_s, "cpu_per_gb": transfer.cpu_s_per_gb}


def tcp_four_streams(subject: Subject) -> Figures:
    return {"tcp_4": subject.iperf.tcp(subject.settings.seconds, streams=4).megabits_per_s}


def tcp_both_ways(subject: Subject) -> Figures:
    return {"tcp_both_ways": subject.iperf.tcp(subject.settings.seconds, both_ways=True).megabits_per_s}


def udp(size: int) -> Callable[[Subject], Figures]:
    def measure(subject: Subject) -> Figures:
        datagrams = subject.iperf.udp(subject.settings.seconds, size)
        return {f"udp_{size}": datagrams.per_s}

    return measure


def round_trip(subject: Subject) -> Figures:
    return {"rtt": round_trip_ms(subject.wire.near, subject.tunnel.far_inner, subject.settings.pings)}


def memory_under_load(subject: Subject) -> Figures:
    """The highest so far, of the larger process: after all traffic of the steps before."""
    return {"memory_loaded": max(map(peak_resident_kib, subject.tunnel.pids)) / 1024}


def packets_in_a_crowd(subject: Subject) -> Figures:
    """What a packet costs where each end knows 10,000 peers, in terms of what it costs with one."""
    alone = subject.iperf.udp(subject.settings.seconds, 1200)
    for device in (subject.tunnel.near, subject.tunnel.far):
        device.set(invented_peers(CROWD - 1, subject.settings.seed))
    crowded = subject.iperf.udp(subject.settings.seconds, 1200)
    return {"crowd_cost": crowded.cpu_us_each / alone.cpu_us_each}


def memory_of_peers(subject: Subject) -> Figures:
    """Resident memory of a process without traffic, as peers are added."""
    device = subject.spare_device()
    figures: Figures = {}
    lines = list(invented_peers(CROWD, subject.settings.seed))
    per_peer, added = len(lines) // CROWD, 0
    for count in PEER_COUNTS:
        device.set(lines[added * per_peer : count * per_peer])
        added = count
        figures[f"memory_{count}"] = resident_kib(device.pid) / 1024
    device.stop()
    figures["memory_per_peer"] = (figures[f"memory_{CROWD}"] - figures["memory_1"]) * 1024 / (CROWD - 1)
    return figures


def handshakes(subject: Subject) -> Figures:
    """Responses to valid initiations of 1,000 configured peers, for each CPU second of the responder."""
    device = Device(subject.wire.far, subject.implementation, f"{subject.name}h")
    numbers = (PORT, device.pid, HANDSHAKE_PEERS, subject.settings.handshakes_per_peer)
    target = (device.interface, device.public_key, subject.wire.far_outer, *map(str, numbers))
    load = subject.wire.near.run([sys.executable, HANDSHAKE_LOAD, *target], timeout=HANDSHAKES_TIMEOUT_S)
    device.stop()
    return {"handshakes": json.loads(load.stdout)["responses_per_cpu_s"]}


def relay_forwarding(subject: Subject) -> Figures:
    """With runs of datagrams that pass the devices whole, then with each by itself. Only we relay."""
    figures: Figures = {}
    if subject.implementation.role is not Role.OURS:
        return figures
    rig = relay.Relay(subject.lab, "relay")
    for kind in ("gso", "plain"):
        if kind == "plain":
            if relay.missing_requirements():
                break
            rig.turn_segmentation_off()
        large = rig.forward(relay.LARGE_PACKET, subject.settings.seconds)
        small = rig.forward(relay.SMALL_PACKET, subject.settings.seconds)
        figures |= {f"relay_{kind}": large.megabits_per_s, f"relay_{kind}_packets": small.packets_per_s}
    return figures


@dataclass(frozen=True)
class Step:
    name: str
    measure: Callable[[Subject], Figures]


def steps() -> Iterator[Step]:
    """In this order: the last ones change or end the tunnel."""
    yield Step("TCP, one stream", tcp_one_stream)
    yield Step("TCP, four streams", tcp_four_streams)
    yield Step("TCP, both ways", tcp_both_ways)
    for size in PLOTTED_SIZES:
        yield Step(f"UDP, {size} bytes", udp(size))
    yield Step("round trip", round_trip)
    yield Step("memory under load", memory_under_load)
    yield Step("packets in a crowd", packets_in_a_crowd)
    yield Step("memory of peers", memory_of_peers)
    yield Step("handshakes", handshakes)
    yield Step("relay forwarding", relay_forwarding)
