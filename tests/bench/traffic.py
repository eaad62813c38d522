"""Traffic through a tunnel and what came of it: iperf3 and ping."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
from dataclasses import dataclass
from typing import Any

from labnet import Host, LabError, wait_until
from tunnel import Tunnel

SERVER_START_S = 5.0
IPERF_GRACE_S = 30.0
PING_INTERVAL_S = 0.002

_PING_TIME = re.compile(r"time=([0-9.]+) ms")


@dataclass(frozen=True)
class Transfer:
    """What arrived in one run of iperf3, and the CPU that the tunnel's two processes spent on it."""

    seconds: float
    received_bytes: int
    cpu_s: float

    @property
    def megabits_per_s(self) -> float:
        return self.received_bytes * 8 / self.seconds / 1e6

    @property
    def cpu_s_per_gb(self) -> float:
        return self.cpu_s / (self.received_bytes / 1e9)


@dataclass(frozen=True)
class Datagrams:
    """What arrived of an unlimited stream of UDP datagrams of one size."""

    seconds: float
    received: int
    cpu_s: float

    @property
    def per_s(self) -> float:
        return self.received / self.seconds

    @property
    def cpu_us_each(self) -> float:
        return self.cpu_s / self.received * 1e6


class Iperf:
    """An iperf3 server at the far end of a tunnel, and its clients at the near end."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        log = tunnel.wire.far.directory / "iperf3.log"
        with log.open("w") as stream:
            server = ["iperf3", "--server", "--bind", tunnel.far_inner, "--forceflush"]
            tunnel.wire.far.popen(server, stdout=stream.fileno(), stderr=subprocess.STDOUT)
        wait_until(lambda: "listening" in log.read_text(), SERVER_START_S, "iperf3 listens")

    def tcp(self, seconds: int, *, streams: int = 1, both_ways: bool = False) -> Transfer:
        options = ["--parallel", str(streams), *(["--bidir"] if both_ways else [])]
        end, cpu_s = self._run(seconds, options)
        received = end["sum_received"]
        transferred = received["bytes"]
        if both_ways:
            transferred += end["sum_received_bidir_reverse"]["bytes"]
        return Transfer(received["seconds"], transferred, cpu_s)

    def udp(self, seconds: int, size: int) -> Datagrams:
        """size: bytes of payload in each datagram. The sender has no limit; what is too much is lost."""
        end, cpu_s = self._run(seconds, ["--udp", "--bitrate", "0", "--length", str(size)])
        received = end["sum_received"]
        return Datagrams(received["seconds"], received["bytes"] // size, cpu_s)

    def _run(self, seconds: int, options: list[str]) -> tuple[dict[str, Any], float]:
        client = ["iperf3", "--json", "--client", self._tunnel.far_inner, "--time", str(seconds), *options]
        before = self._tunnel.cpu_s()
        answer = self._tunnel.wire.near.run(client, timeout=seconds + IPERF_GRACE_S)
        spent = self._tunnel.cpu_s() - before
        end: dict[str, Any] = json.loads(answer.stdout)["end"]
        if not end["sum_received"]["bytes"]:
            raise LabError("nothing of what iperf3 sent arrived")
        return end, spent


def round_trip_ms(host: Host, address: str, count: int) -> float:
    """The median of count pings in quick succession. Raises LabError where none is answered."""
    ping = host.run(["ping", "-n", "-i", str(PING_INTERVAL_S), "-c", str(count), address])
    return statistics.median(float(time) for time in _PING_TIME.findall(ping.stdout))
