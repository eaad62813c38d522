"""Wires between hosts of a lab that delay, lose, reorder, duplicate, limit and swallow packets when told to.

A wire is two veth pairs whose inner ends stand in a namespace of their own, where a process (micronet.py)
carries the frames. Offloads are off at the outer ends: a wire carries packets as a real one would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labnet import Host, Lab, LabError, join_devices

MICRONET = Path(__file__).with_name("micronet.py")
OFFLOADS = ("rx", "tx", "sg", "tso", "gso", "gro", "tx-udp-segmentation")


@dataclass(frozen=True)
class End:
    """A device that a wire makes on a host."""

    host: Host
    device: str


class Wire:
    """One wire. `lanes` are (0,) from its first end, (1,) from its second, or both."""

    BOTH = (0, 1)

    def __init__(self, wires: Wires, name: str, ends: tuple[End, End]) -> None:
        self.name = name
        self.ends = ends
        self._wires = wires

    def change(self, *, lanes: tuple[int, ...] = BOTH, **impairments: Any) -> None:
        """In force for all packets sent after the return. impairments: fields of lane.Impairments."""
        self._wires.ask(do="change", wire=self.name, lanes=lanes, impairments=impairments)

    def cut(self) -> None:
        """Nothing passes, and nobody is told."""
        self.change(cut=True)

    def mend(self) -> None:
        self.change(cut=False)

    def unplug(self) -> None:
        """Both hosts see their device lose its carrier."""
        for number in range(2):
            self._wires.host.ip("link", "set", self.inner_device(number), "down")

    def plug(self) -> None:
        for number in range(2):
            self._wires.host.ip("link", "set", self.inner_device(number), "up")

    def counters(self) -> list[dict[str, int]]:
        """Of each lane: fields of lane.LaneCounters."""
        lanes: list[dict[str, int]] = self._wires.ask(do="counters", wire=self.name)["lanes"]
        return lanes

    def inner_device(self, end: int) -> str:
        return f"{self.name}-{'ab'[end]}"


class Wires:
    """All wires of a lab, and the process that carries them."""

    def __init__(self, lab: Lab, seed: int = 0) -> None:
        self.host = lab.host("wires")
        self._seed = seed
        self._count = 0
        # Nobody lives here: the inner ends must not speak by themselves.
        self.host.run(["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])
        self._carrier = self.host.popen(
            [sys.executable, MICRONET], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def connect(self, first: End, second: End, *, mtu: int = 1500, **impairments: Any) -> Wire:
        """A new device at each end, up and without addresses. impairments: fields of lane.Impairments."""
        self._count += 1
        wire = Wire(self, f"wire{self._count}", (first, second))
        for number, end in enumerate(wire.ends):
            inner = wire.inner_device(number)
            join_devices(end.host, end.device, self.host, inner, mtu=mtu)
            off = [word for offload in OFFLOADS for word in (offload, "off")]
            end.host.run(["ethtool", "-K", end.device, *off])
        self.ask(
            do="add",
            wire=wire.name,
            ends=[wire.inner_device(0), wire.inner_device(1)],
            seed=f"{self._seed} {self._count}",
            impairments=impairments,
        )
        return wire

    def ask(self, **request: object) -> dict[str, Any]:
        """Raises LabError for a request that micronet does not take."""
        stdin, stdout = self._carrier.stdin, self._carrier.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise LabError("micronet has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LabError(f"micronet: {answer['error']}")
        return answer
