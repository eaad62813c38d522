"""`make soak`: two devices of ours at full speed, while keys, peers and paths change all the time.

Exit code 1 where a TCP connection was reset, a ping was lost, a change had no effect, or a process grew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import growth
from figures import write_result
from labnet import Lab, LabError, missing_requirements, wait_until
from soak_end import PORT, TCP_WINDOW_MAX, End
from uapi_client import UAPI_DIRECTORY
from whcore.keys import encode_key

MINUTES = 30.0
REKEY_S = 5.0
CHURN_S = 0.1
SWITCH_S = 1.0
SAMPLES = 180
PINGS_PER_S = 20
PING_WAIT_S = 5
SETTLE_S = 10.0
"""For iperf3 and ping to end by themselves after their time."""
PING_DRIFT = 0.1
"""Of the run's length, for ping besides: a busy machine stretches the pauses between its packets."""

_PING_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")


class Schedule:
    """Actions that are due at their own intervals."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, float, Callable[[], None]]] = []

    def every(self, interval_s: float, action: Callable[[], None]) -> None:
        self._entries.append((time.monotonic() + interval_s, interval_s, action))

    def run_next(self) -> None:
        """Wait for the action that is due first, and do it. One that comes late is not made up for."""
        due, interval_s, action = min(self._entries, key=lambda entry: entry[0])
        self._entries.remove((due, interval_s, action))
        time.sleep(max(0.0, due - time.monotonic()))
        action()
        self._entries.append((max(due + interval_s, time.monotonic()), interval_s, action))


class Soak:
    """left decides on its paths (a managed peer); right follows (a plain peer roams)."""

    def __init__(self, lab: Lab, seconds: float, seed: int) -> None:
        self.seconds = seconds
        self.random = random.Random(seed)  # noqa: S311 - a repeatable test, not a key
        self.left, self.right = self._ends(lab)
        self.churned: dict[str, str] = {}
        self.samples: dict[str, list[growth.Resources]] = {"left": [], "right": []}
        self.counts = {"rekeys": 0, "switches": 0, "churned peers": 0}
        self.handshakes: set[int] = set()
        self.path = ""
        self.moves = 0
        self.received_bytes = 0
        self.started_at = time.monotonic()

    def _ends(self, lab: Lab) -> tuple[End, End]:
        hosts = lab.host("left"), lab.host("right")
        for number, network in enumerate(("192.0.2", "198.51.100")):
            device = f"eth{number}"
            hosts[0].ip(*f"link add {device} type veth peer name {device} netns {hosts[1].namespace}".split())
            for last, host in enumerate(hosts, 1):
                host.ip("address", "add", f"{network}.{last}/24", "dev", device)
                host.ip("link", "set", device, "up")
        ends = []
        for last, host in enumerate(hosts, 1):
            for buffers in ("tcp_rmem", "tcp_wmem"):
                host.run(["sysctl", "-qw", f"net.ipv4.{buffers}=4096 131072 {TCP_WINDOW_MAX}"])
            outer = (f"192.0.2.{last}", f"198.51.100.{last}")
            ends.append(End(host, f"soak{last}{lab.token}", f"10.9.0.{last}", outer))
        return ends[0], ends[1]

    def connect(self) -> None:
        self.left.tell("join", self.right.key, self.right.inner, "managed")
        self.right.tell("join", self.left.key, self.left.inner, "plain")
        self.left.tell("path", self.right.key, self.right.outer[0], PORT)
        self.left.host.run(["ping", "-c1", "-w10", self.right.inner])

    # --- what goes on ---------------------------------------------------------------------------------------

    def rekey(self) -> None:
        end, other = self.random.sample((self.left, self.right), 2)
        end.tell("rekey", other.key)
        self.counts["rekeys"] += 1

    def switch_path(self) -> None:
        """To the other pair of addresses, from a fresh socket."""
        self.observe()
        self.counts["switches"] += 1
        remote = self.right.outer[self.counts["switches"] % 2]
        self.left.tell("path", self.right.key, remote, PORT)

    def churn(self) -> None:
        """At both ends the last invented peer goes and another comes, and is called where nobody knows it."""
        for end, other in ((self.left, self.right), (self.right, self.left)):
            if end.interface in self.churned:
                end.tell("remove", self.churned[end.interface])
            raw = bytearray(self.random.randbytes(32))
            raw[31] &= 0x7F  # below 2^255, as RFC 7748 writes points
            key = encode_key(bytes(raw))
            address = f"10.{self.random.randrange(128, 256)}.{self.random.randrange(256)}.1"
            end.tell("add", key, address, other.outer[0], PORT)
            self.churned[end.interface] = key
        self.counts["churned peers"] += 2

    # --- what is watched ------------------------------------------------------------------------------------

    def observe(self) -> None:
        """right's view: handshakes and the paths that left's changes made."""
        stats = self.right.stats(self.left.key)
        self.handshakes.add(stats["last_handshake_ns"])
        if stats["path"] != self.path:  # each switch is to another address than the one before
            self.path = stats["path"]
            self.moves += 1

    def take_sample(self) -> None:
        at_s = time.monotonic() - self.started_at
        for name, end in (("left", self.left), ("right", self.right)):
            self.samples[name].append(growth.sample(end.pid, at_s))
        received = self.right.stats(self.left.key)["rx_bytes"]
        interval_s = at_s - (self.samples["left"][-2].at_s if len(self.samples["left"]) > 1 else 0.0)
        rate = (received - self.received_bytes) * 8 / interval_s / 1e6
        self.received_bytes = received
        now = [self.samples[name][-1] for name in ("left", "right")]
        print(
            f"{at_s:7.0f} s  {rate:6.0f} Mbit/s  "
            f"resident {now[0].resident_kib:,} {now[1].resident_kib:,} KiB  "
            f"fds {now[0].fds} {now[1].fds}  threads {now[0].threads} {now[1].threads}",
            flush=True,
        )

    # --- the run --------------------------------------------------------------------------------------------

    def run(self) -> dict[str, object]:
        """Returns the summary; its `complaints` are empty where all went well."""
        self.connect()
        ping, ping_output = self._start_ping()
        iperf, iperf_output = self._start_iperf()
        tcp_before = {"left": self.left.tcp(), "right": self.right.tcp()}
        self.started_at = time.monotonic()
        schedule = Schedule()
        schedule.every(REKEY_S, self.rekey)
        schedule.every(CHURN_S, self.churn)
        schedule.every(SWITCH_S, self.switch_path)
        schedule.every(max(1.0, self.seconds / SAMPLES), self.take_sample)
        while time.monotonic() - self.started_at < self.seconds and iperf.poll() is None:
            schedule.run_next()
        tcp_after = {
            "left": self.left.tcp(),
            "right": self.right.tcp(),
        }  # before iperf3 closes its connections
        iperf.wait(SETTLE_S)
        ping.wait(SETTLE_S + PING_DRIFT * self.seconds)
        changes = {
            name: {
                key: tcp_after[name][key] - before[key] for key in ("EstabResets", "OutRsts", "RetransSegs")
            }
            for name, before in tcp_before.items()
        }
        return self._summary(ping_output.read_text(), json.loads(iperf_output.read_text()), changes)

    def _start_ping(self) -> tuple[subprocess.Popen[str], Path]:
        output = self.left.host.directory / "ping"
        count = int(self.seconds * PINGS_PER_S)
        argv = ["ping", "-q", "-c", str(count), "-i", str(1 / PINGS_PER_S), "-W", str(PING_WAIT_S)]
        with output.open("w") as stream:
            return self.left.host.popen([*argv, self.right.inner], stdout=stream.fileno()), output

    def _start_iperf(self) -> tuple[subprocess.Popen[str], Path]:
        log = self.right.host.directory / "iperf3.log"
        with log.open("w") as stream:
            server = ["iperf3", "--server", "--bind", self.right.inner, "--forceflush"]
            self.right.host.popen(server, stdout=stream.fileno(), stderr=subprocess.STDOUT)
        wait_until(lambda: "listening" in log.read_text(), 5, "iperf3 listens")
        output = self.left.host.directory / "iperf3.json"
        client = ["iperf3", "--json", "--bidir", "--interval", "60", "--time", str(int(self.seconds) + 2)]
        with output.open("w") as stream:
            return self.left.host.popen(
                [*client, "--client", self.right.inner], stdout=stream.fileno()
            ), output

    def _datagrams_lost(self) -> int:
        """Data messages that one end sent and the other did not receive, once nothing is under way."""

        def missing() -> int:
            left = self.left.stats(self.right.key)["counters"]
            right = self.right.stats(self.left.key)["counters"]
            return int(left["tx_data"] - right["rx_data"] + right["tx_data"] - left["rx_data"])

        with contextlib.suppress(TimeoutError):
            wait_until(lambda: missing() == 0, SETTLE_S, "all has arrived")
        return missing()

    def _summary(
        self, ping: str, iperf: dict[str, object], tcp: dict[str, dict[str, int]]
    ) -> dict[str, object]:
        complaints = [
            text for name, samples in self.samples.items() for text in growth.complaints(name, samples)
        ]
        if error := iperf.get("error"):
            complaints.append(f"iperf3: {error}")
        complaints += [f"{name}: TCP reset a connection" for name, each in tcp.items() if each["EstabResets"]]
        if missing := self._datagrams_lost():
            complaints.append(f"{missing} data messages that one end sent did not reach the other")
        sent, lost = pings_lost(ping)
        if lost or not sent:
            complaints.append(f"{lost} of {sent} pings were lost")
        # One of either may have come too close to the end of the run to be seen.
        if len(self.handshakes) < self.counts["rekeys"] - 1:
            complaints.append(f"{self.counts['rekeys']} rekeys made {len(self.handshakes)} sessions")
        if self.moves < self.counts["switches"] - 1:
            complaints.append(f"{self.counts['switches']} switches moved the path {self.moves} times")
        return {
            "complaints": complaints,
            "done": self.counts,
            "seen": {"sessions": len(self.handshakes), "moves": self.moves},
            "pings": {"sent": sent, "lost": lost},
            "received_gb": self.received_bytes / 1e9,
            "tcp": tcp,
            "resident_growth_kib": {name: growth.resident_growth_kib(s) for name, s in self.samples.items()},
            "counters": {"left": self.left.stats(self.right.key)["counters"]}
            | {"right": self.right.stats(self.left.key)["counters"]},
        }


def pings_lost(output: str) -> tuple[int, int]:
    """(sent, lost) by the closing lines of ping; (0, 0) where it has none."""
    found = _PING_SUMMARY.search(output)
    return (int(found[1]), int(found[1]) - int(found[2])) if found else (0, 0)


def soak(seconds: float, seed: int) -> dict[str, object]:
    with Lab("soak") as lab:
        try:
            return Soak(lab, seconds, seed).run()
        finally:
            for left in UAPI_DIRECTORY.glob(f"soak*{lab.token}.sock"):
                with contextlib.suppress(FileNotFoundError):
                    left.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--seed", type=int, default=1, help="of the invented peers and of who rekeys")
    arguments = parser.parse_args()
    if reason := missing_requirements():
        print(f"soak: {reason}", file=sys.stderr)
        return 1
    print(f"soak: {arguments.minutes:g} minutes, seed {arguments.seed}", flush=True)
    try:
        summary = soak(arguments.minutes * 60, arguments.seed)
    except (LabError, TimeoutError, subprocess.TimeoutExpired) as error:
        summary = {"complaints": [str(error)]}
    write_result("soak", {"minutes": arguments.minutes, "seed": arguments.seed} | summary)
    complaints = summary["complaints"]
    print(json.dumps(summary, indent=2))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
