"""Relay forwarding: an opener floods a relay, and the kernel of the target's host counts what comes out.

Nothing reads at the target, so on two cores the flood has one and the relay the other. Where runs of
datagrams pass the devices whole the relay may not be the slower of the two: it can do what is measured, and
maybe more.
"""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from labnet import Host, Lab, LabError
from process_stat import cpu_s

PORT = 62096
ANSWER_TIMEOUT_S = 10.0
SETTLE_S = 0.2
"""From the client's start to the first count: Python is up and the flood runs."""

DATA_OVERHEAD = 32
"""A WireGuard data message around its inner packet (whitepaper 5.4.6)."""

LARGE_PACKET, SMALL_PACKET = 1408, 96
"""Inner packets: the overlay's MTU, and a UDP datagram of 64 bytes with headers and padding."""

IP_AND_UDP = 28
CHANNEL_HEADER = 8

RELAY_PROCESS, RELAY_CLIENT = (Path(__file__).with_name(f"relay_{part}.py") for part in ("process", "client"))

# Dropped where it comes in, before a socket is looked for.
COUNT_AND_DROP = f"""
table ip bench {{
  counter arrived {{ }}
  chain pre {{ type filter hook prerouting priority raw; udp dport {PORT} counter name arrived drop; }}
}}
"""


def missing_requirements() -> str | None:
    """Why it cannot be measured without UDP segmentation on this machine, or None."""
    if shutil.which("ethtool") is None:
        return "relay forwarding without UDP segmentation: ethtool is missing"
    return None


@dataclass(frozen=True)
class Forwarded:
    """What a relay passed on."""

    seconds: float
    packets: int
    inner_len: int
    cpu_s: float

    @property
    def packets_per_s(self) -> float:
        return self.packets / self.seconds

    @property
    def megabits_per_s(self) -> float:
        """Of the inner packets, as a TCP figure counts neither headers of ours."""
        return self.packets_per_s * self.inner_len * 8 / 1e6


class Relay:
    """Three hosts in a row, with a relay of ours on the one in the middle."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.opener, self.middle, self.target = (lab.host(f"{name}-{part}") for part in ("from", "via", "to"))
        self._cable(self.opener, "192.0.2", "eth1")
        self._cable(self.target, "198.51.100", "eth2")
        self.target.run(["nft", "-f", "-"], input=COUNT_AND_DROP)
        pipe = subprocess.PIPE
        argv = (sys.executable, RELAY_PROCESS, str(PORT), "192.0.2.2", "198.51.100.2")
        self._process = self.middle.popen(argv, stdin=pipe, stdout=pipe)
        self._legs = self._read_legs()
        self._client(self.target, "198.51.100.1", self._legs[1], SMALL_PACKET, 0)

    def _cable(self, host: Host, network: str, device: str) -> None:
        self.middle.ip(*f"link add {device} type veth peer name eth0 netns {host.namespace}".split())
        for end, name, last in ((self.middle, device, 1), (host, "eth0", 2)):
            end.ip("address", "add", f"{network}.{last}/24", "dev", name)
            end.ip("link", "set", name, "up")

    def _read_legs(self) -> list[int]:
        stdout = self._process.stdout
        if stdout is None or not select.select([stdout], [], [], ANSWER_TIMEOUT_S)[0]:
            raise LabError("the relay does not start")
        legs: list[int] = json.loads(stdout.readline())
        return legs

    def turn_segmentation_off(self) -> None:
        """No device passes on a run of datagrams as one: each has its own way through the kernel."""
        for host, devices in ((self.opener, ("eth0",)), (self.middle, ("eth1", "eth2"))):
            for device in devices:
                host.run(["ethtool", "-K", device, "tx-udp-segmentation", "off"])

    def _client(
        self, host: Host, relay: str, leg: int, inner_len: int, seconds: int
    ) -> subprocess.Popen[str]:
        size = inner_len + DATA_OVERHEAD
        return host.popen([sys.executable, RELAY_CLIENT, *map(str, (PORT, relay, leg, size, seconds))])

    def forward(self, inner_len: int, seconds: int) -> Forwarded:
        flood = self._client(self.opener, "192.0.2.1", self._legs[0], inner_len, seconds + 1)
        time.sleep(SETTLE_S)
        pid = self._process.pid
        started, before, cpu_before = time.monotonic(), self._arrived(inner_len), cpu_s(pid)
        time.sleep(seconds)
        ended, after, cpu_after = time.monotonic(), self._arrived(inner_len), cpu_s(pid)
        flood.wait(ANSWER_TIMEOUT_S)
        if after == before:
            raise LabError("the relay forwarded nothing")
        return Forwarded(ended - started, after - before, inner_len, cpu_after - cpu_before)

    def _arrived(self, inner_len: int) -> int:
        """Datagrams at the target since it is there, if all were of this size. A run may count as one packet,
        with one header."""
        listing = self.target.run(["nft", "-j", "list", "counters"]).stdout
        counter = next(each["counter"] for each in json.loads(listing)["nftables"] if "counter" in each)
        payload: int = counter["bytes"] - counter["packets"] * IP_AND_UDP
        return payload // (CHANNEL_HEADER + DATA_OVERHEAD + inner_len)
