"""`make bench-znc`: 0nc beside iperf3 over the same tunnel, ncat on plain TCP, and magic-wormhole with
servers of its own, alternating, as a user without privileges; then 0nc and ncat over a wire that loses
packets. Exit code 1 where a goal was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import REPOSITORY, Figure, commit, machine, report
from internet import Internet
from labnet import Host, Lab, missing_requirements, wait_until
from nodes import PORT, PublicNodes
from performance_docs import replace_between
from tables import as_markdown
from wires import End as WireEnd
from wires import Wires
from znc_ends import NOBODY, End

ROUNDS = 5
GIGABYTES = 2.0
SECONDS = 4
MEGABIT = 1e6
WORMHOLE = REPOSITORY / ".bench" / "wormhole" / "bin"
MAILBOX, TRANSIT = 4000, 4001
NAT_DELAY_S = 0.02
LOSSY_DELAY_S, LOSS, LOSSY_BIT_S = 0.05, 0.01, 100e6
"""Each way."""
LOSSY_MEGABYTES = {"cubic": 4, "bbr": 40}
"""What ncat's kernel does about lost packets: the usual, and the best of what Linux has."""
PATIENCE_S = 600.0

CONNECT_GOAL_S = 0.5
NAT_CONNECT_GOAL_S = 3.0
THROUGHPUT_GOAL = 0.8
MEMORY_GOAL_MB = 80.0
LOSSY_GOAL = 1.0
KILOBYTE = 1024

DOCUMENT = REPOSITORY / "docs" / "netcat.md"
BEGIN = "<!-- figures: written by bench-znc, not by hand -->"
END = "<!-- end of figures -->"


class Pair:
    """Two hosts, to be joined somehow."""

    def __init__(self, lab: Lab) -> None:
        self.a, self.b = lab.host("a"), lab.host("b")


class Lan(Pair):
    """On one network, with a third for servers."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        network, self.c = lab.network("lan"), lab.host("c")
        for number, host in enumerate((self.a, self.b, self.c), 1):
            host.attach(network, f"192.0.2.{number}/24")


class LossyWire(Pair):
    """On a long wire."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        ends = WireEnd(self.a, "eth0"), WireEnd(self.b, "eth0")
        Wires(lab).connect(*ends, delay_s=LOSSY_DELAY_S, loss=LOSS, rate_bit_s=LOSSY_BIT_S)
        for number, host in enumerate((self.a, self.b), 1):
            host.assign("eth0", f"192.0.2.{number}/24")


@contextmanager
def zeros(count: int) -> Iterator[int]:
    """The reading end of a pipe that a program writes zeros into."""
    with subprocess.Popen(["head", "-c", str(count), "/dev/zero"], stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        yield source.stdout.fileno()


def peak_mb(end: End) -> float:
    """So far, of resident memory."""
    status = Path(f"/proc/{end.process.pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak) * KILOBYTE / MEGABIT


def znc(pair: Pair, count: int) -> tuple[float, float]:
    """Mbit/s from the connection to the last acknowledgement, and the larger one's memory in MB."""
    with zeros(count) as source:
        host = End(pair.a, stdin=source)
        guest = End(pair.b, [host.invitation()])
        peak = 0.0
        while guest.process.poll() is None:
            try:
                peak = max(peak, peak_mb(host), peak_mb(guest))
            except (OSError, ValueError):  # it has just ended
                break
            time.sleep(0.1)
        ends = guest.wait(PATIENCE_S), host.wait(PATIENCE_S)
    if ends != (0, 0):
        raise RuntimeError(f"0nc failed: {host.log.read_text()} {guest.log.read_text()}")
    done = guest.event("done")
    return 8 * done["received"] / done["seconds"] / MEGABIT, peak


def child_of(process: subprocess.Popen[str]) -> int:
    """The helper in the namespace."""
    answer = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    )
    return int(answer.stdout.split()[0])


def iperf_through_the_tunnel(lan: Lan) -> float:
    """Mbit/s between the namespaces of two 0nc that have nothing to say."""
    host = End(lan.a, stdin=subprocess.PIPE)
    guest = End(lan.b, [host.invitation()], stdin=subprocess.PIPE)
    guest.event("connected")
    inside = [["nsenter", f"--net=/proc/{child_of(end.process)}/ns/net"] for end in (host, guest)]
    shown = subprocess.run([*inside[0], "ip", "-6", "-o", "address"], capture_output=True, text=True).stdout
    address = next(word.split("/")[0] for word in shown.split() if word.startswith("2001:2"))
    with subprocess.Popen(
        [*inside[0], "iperf3", "--server", "--one-off", "--forceflush"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        while "listening" not in server.stdout.readline():
            continue
        client = [*inside[1], "iperf3", "--json", "--client", address, "--time", str(SECONDS)]
        answer = json.loads(subprocess.run(client, capture_output=True, text=True).stdout)
    for end in (host, guest):
        end.process.kill()
        end.process.wait()
    return float(answer["end"]["sum_received"]["bits_per_second"]) / MEGABIT


def ncat(pair: Pair, count: int) -> float:
    """Mbit/s of plain TCP, which encrypts nothing."""
    listener = pair.b.popen(["ncat", "-l", "-p", "4100", "--recv-only"], stdout=subprocess.DEVNULL)
    wait_until(lambda: ":4100" in pair.b.run(["ss", "-tln"]).stdout, 10, "ncat listens")
    with zeros(count) as source:
        started = time.monotonic()
        sender = pair.a.popen(["ncat", "--send-only", "192.0.2.2", "4100"], stdin=source)
        sender.wait(PATIENCE_S)
        listener.wait(PATIENCE_S)
    return 8 * count / (time.monotonic() - started) / MEGABIT


class Wormhole:
    """Mailbox and transit server on the third host."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan
        twist = str(WORMHOLE / "twist")
        for words in (
            ["wormhole-mailbox", f"--port=tcp:{MAILBOX}", "--channel-db=:memory:"],
            ["transitrelay", f"--port=tcp:{TRANSIT}"],
        ):
            log = lan.c.directory / f"{words[0]}.log"
            with log.open("wb") as output:
                lan.c.popen([twist, *words], stdout=output.fileno(), stderr=output.fileno())
        wait_until(self._listening, 30, "the servers of magic-wormhole listen")

    def _listening(self) -> bool:
        sockets = self._lan.c.run(["ss", "-tln"]).stdout
        return f":{MAILBOX}" in sockets and f":{TRANSIT}" in sockets

    def send(self, count: int) -> float:
        """Mbit/s from the receiver's start to its end: a file, since it has no streams. Its start is in
        it."""
        servers = [f"--relay-url=ws://192.0.2.3:{MAILBOX}/v1", f"--transit-helper=tcp:192.0.2.3:{TRANSIT}"]
        program, code = str(WORMHOLE / "wormhole"), "7-bench-run"
        source = self._lan.a.directory / "zeros"
        with source.open("wb") as file:
            file.truncate(count)
        (self._lan.b.directory / "copy").unlink(missing_ok=True)
        sender = self._lan.a.popen(
            [program, *servers, "send", "--code", code, "--hide-progress", str(source)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started = time.monotonic()
        self._lan.b.run(
            [program, *servers, "receive", "--accept-file", "--hide-progress", "-o", "copy", code],
            timeout=PATIENCE_S,
        )
        seconds = time.monotonic() - started
        sender.wait(PATIENCE_S)
        return 8 * count / seconds / MEGABIT


def connect_s(host: Host, guest: Host, arguments: list[str]) -> float:
    """From the start of the program that got the invitation to its word that it is connected."""
    waiting = End(host, arguments, stdin=subprocess.PIPE)
    text = waiting.invitation()
    started = time.monotonic()
    process = guest.popen(
        [*NOBODY, "0nc", "--json", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    seconds = time.monotonic() - started
    if json.loads(line)["event"] != "connected":
        raise RuntimeError(f"0nc did not connect: {line}")
    for each in (process, waiting.process):
        each.terminate()  # so that relays hear of it
        each.wait()
    return seconds


def fetch_wormhole() -> bool:
    """Into a directory of its own. False where it cannot be had."""
    if (WORMHOLE / "wormhole").exists():
        return True
    packages = ["magic-wormhole", "magic-wormhole-mailbox-server", "magic-wormhole-transit-relay"]
    made = subprocess.run([sys.executable, "-m", "venv", str(WORMHOLE.parent)])
    return (
        made.returncode == 0
        and subprocess.run([str(WORMHOLE / "pip"), "install", "--quiet", *packages]).returncode == 0
    )


def on_a_lan(rounds: int, count: int) -> tuple[list[Figure], dict[str, list[float]]]:
    rates: dict[str, list[float]] = {"0nc": [], "iperf3, same tunnel": [], "ncat, plain TCP": []}
    peaks, times = [], []
    with Lab("znc") as lab:
        lan = Lan(lab)
        others: list[tuple[str, Callable[[], float]]] = [
            ("iperf3, same tunnel", lambda: iperf_through_the_tunnel(lan)),
        ]
        if shutil.which("ncat"):
            others.append(("ncat, plain TCP", lambda: ncat(lan, count)))
        if fetch_wormhole():
            wormhole = Wormhole(lan)
            rates["magic-wormhole, a file"] = []
            others.append(("magic-wormhole, a file", lambda: wormhole.send(count // 4)))
        for number in range(1, rounds + 1):
            times.append(connect_s(lan.a, lan.b, []))
            rate, peak = znc(lan, count)
            rates["0nc"].append(rate)
            peaks.append(peak)
            for name, measure in others:
                rates[name].append(measure())
            last = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items() if values)
            print(f"[{number}] Mbit/s: {last}; connected after {times[-1]:.2f} s", flush=True)
    ratios = [ours / theirs for ours, theirs in zip(rates["0nc"], rates["iperf3, same tunnel"], strict=True)]
    figures = [
        Figure("on a LAN: from paste to connected", statistics.median(times), "s", CONNECT_GOAL_S),
        Figure(
            "0nc / iperf3 over the same tunnel",
            statistics.median(ratios),
            "times",
            THROUGHPUT_GOAL,
            at_least=True,
        ),
        Figure("memory of one 0nc", max(peaks), "MB", MEMORY_GOAL_MB),
    ]
    return figures, rates


def on_a_lossy_wire(rounds: int) -> Iterator[Figure]:
    """0nc does as it is, whatever the kernel's own TCP is told."""
    with Lab("znclossy") as lab:
        wire = LossyWire(lab)
        for control, megabytes in LOSSY_MEGABYTES.items():
            told = [
                host.run(["sysctl", "-qw", f"net.ipv4.tcp_congestion_control={control}"], check=False)
                for host in (wire.a, wire.b)
            ]
            if any(answer.returncode for answer in told):
                print(f"this kernel has no {control}")
                continue
            ratios = []
            for _ in range(rounds):
                ours, theirs = znc(wire, megabytes * 10**6)[0], ncat(wire, megabytes * 10**6)
                ratios.append(ours / theirs)
                print(f"50 ms, 1% lost, Mbit/s: 0nc {ours:.1f}, ncat over {control} {theirs:.1f}", flush=True)
            name = f"50 ms and 1% loss: 0nc / ncat over {control}"
            yield Figure(name, statistics.median(ratios), "times", LOSSY_GOAL, at_least=True)


def across_nats(rounds: int) -> Figure:
    """Both ends behind port-restricted NATs on wires of 20 ms."""
    times = []
    with Lab("zncnat") as lab:
        internet = Internet(lab, delay_s=NAT_DELAY_S)
        publics = PublicNodes(internet)
        a, b = (internet.site(name, "port-restricted") for name in ("a", "b"))
        publics.up()
        places = zip(publics.nodes, publics.sites, strict=True)
        bootstraps = [f"--bootstrap={node.key}@{site.public_ipv4}:{PORT}" for node, site in places]
        for _ in range(rounds):
            times.append(connect_s(a.host, b.host, bootstraps))
            print(f"behind two NATs: connected after {times[-1]:.2f} s", flush=True)
    return Figure(
        "behind two NATs on wires of 20 ms: from paste to connected",
        statistics.median(times),
        "s",
        NAT_CONNECT_GOAL_S,
    )


def goal_rows(figures: list[Figure]) -> Iterator[list[str]]:
    yield ["", "measured", "goal", ""]
    for figure in figures:
        goal = f"at {'least' if figure.at_least else 'most'} {figure.goal:g} {figure.unit}"
        value = f"{figure.value:.3g} {figure.unit}"
        yield [figure.name, value, goal, "met" if figure.passed else "missed"]


def rate_rows(rates: dict[str, list[float]]) -> Iterator[list[str]]:
    yield ["on a LAN", "Mbit/s"]
    for name, values in rates.items():
        if values:
            yield [name, f"{statistics.median(values):,.0f}"]


def write_docs(options: argparse.Namespace, figures: list[Figure], rates: dict[str, list[float]]) -> None:
    here = machine()
    circumstances = (
        f"Measured on {here['cpu']}, {here['cores']} cores, Linux {here['kernel']}, commit {commit()};"
        f" medians of {options.rounds} rounds of {options.gigabytes:g} GB; memory: the highest."
    )
    inner = "\n\n".join([circumstances, as_markdown(goal_rows(figures)), as_markdown(rate_rows(rates))])
    DOCUMENT.write_text(replace_between(DOCUMENT.read_text(), BEGIN, END, inner))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--gigabytes", type=float, default=GIGABYTES)
    parser.add_argument("--write-docs", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    options = parser.parse_args()
    if reason := missing_requirements():
        print(f"bench-znc: {reason}", file=sys.stderr)
        return 2
    os.umask(0o022)
    figures, rates = on_a_lan(options.rounds, int(options.gigabytes * 1e9))
    figures.append(across_nats(options.rounds))
    figures += on_a_lossy_wire(options.rounds)
    print(
        "\nMbit/s, medians: "
        + ", ".join(f"{name} {statistics.median(v):,.0f}" for name, v in rates.items() if v)
    )
    if options.write_docs:
        write_docs(options, figures, rates)
    return 0 if report("bench-znc", figures) else 1


if __name__ == "__main__":
    sys.exit(main())
