"""What befalls a host's network, clock or process, and how long nobody is answered then (docs/faults.md).

Each fault is a function: it has a member live through one such event, leaves all as it was, and returns gaps
in seconds. bench_faults measures them ten times each; tests/lab/test_network_faults.py plays each once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import faults
from clocks import Clocks
from inside import inside
from labnet import Host, Lab, wait_until
from nodes import INTERFACE, PORT
from two_uplinks import TwoUplinks

PORTAL_PORT = 8443
PORTAL_S = 15.0
"""Long enough for the paths to be given up."""
TCP_PORT = 443
PAUSE_S = 3.0
FLAPS = 5
DAY_S = 86400
RECOVERY_MAX_S = 120.0


@dataclass
class World:
    """a, the member that things befall, has settable clocks."""

    net: TwoUplinks
    clocks: Clocks
    slept_s: int = 0

    @classmethod
    def make(cls, lab: Lab) -> World:
        clocks: list[Clocks] = []

        def give_clocks(net: TwoUplinks) -> None:
            clocks.append(Clocks(net.a.host.directory))
            net.a.host.variables |= clocks[0].environment

        net = TwoUplinks.make(lab, before_up=give_clocks, public_lines=(f"listen-tcp {TCP_PORT}",))
        return cls(net, clocks[0])

    @property
    def a(self) -> Host:
        return self.net.a.host

    def recovery_s(self, event: Callable[[], object]) -> float:
        """From the end of the event until pings are answered again, both ways."""
        with self.net.pinging() as pings:
            event()
            over = time.time()
            for ping in pings:
                ping.wait_for_replies(3, RECOVERY_MAX_S)
                wait_until(
                    lambda ping=ping: any(each.sent >= over for each in ping.replies()),  # type: ignore[misc]
                    RECOVERY_MAX_S,
                    "a ping of after the event is answered",
                )
        firsts = (min(each.arrived for each in ping.replies() if each.arrived > over) for ping in pings)
        return max(first - over for first in firsts)


# What others do to the interface, and to routing


def _taken(*change: str) -> Callable[[World], list[float]]:
    def play(world: World) -> list[float]:
        return [world.net.gap_s(lambda: world.a.ip(*change))]

    return play


def rule_changed(world: World) -> list[float]:
    """The ISP swallows all of the first uplink, and a rule sends by the second; then the contrary."""
    with world.net.second_by_rule() as divert:
        gap_s = world.net.gap_s(divert)
        world.net.wait_until_direct()
        return [gap_s, world.net.gap_s(world.net.undivert)]


def default_route_moved(world: World) -> list[float]:
    def move(to: int) -> float:
        gap_s = world.net.gap_s(lambda: world.net.default_by(to))
        world.net.wait_until_direct()
        return gap_s

    return [move(1), move(0)]


def ipv4_to_ipv6(world: World) -> list[float]:
    """From a network of IPv4 alone into one of IPv6 alone, and back."""
    net = world.net

    def to_ipv6() -> None:
        net.take_ipv6()
        net.leave_ipv4()

    def to_ipv4() -> None:
        net.take_ipv4()
        net.leave_ipv6()

    net.leave_ipv6()
    net.wait_until_direct()
    gaps = [net.gap_s(to_ipv6)]
    net.wait_until_direct()
    gaps.append(net.gap_s(to_ipv4))
    net.take_ipv6()
    return gaps


def containers(world: World) -> list[float]:
    def start_and_stop() -> None:
        for number in range(20):
            veth = f"veth{number}"
            world.a.ip("link", "add", veth, "type", "veth", "peer", "name", f"inside{number}")
            world.a.ip("address", "add", f"172.17.{number}.1/24", "dev", veth)
            world.a.ip("link", "set", veth, "up")
            world.a.ip("link", "del", veth)

    return [world.net.gap_s(start_and_stop)]


def addresses_come_and_go(world: World) -> list[float]:
    def change() -> None:
        for number in range(5):
            added = (f"192.0.2.{200 + number}/24", "dev", "eth0")
            world.a.ip("address", "add", *added)
            time.sleep(0.3)
            world.a.ip("address", "del", *added)

    return [world.net.gap_s(change)]


def renewed_with_another_address(world: World) -> list[float]:
    """As a DHCP client does it, in a network that has IPv4 alone; and back."""
    net, prefix = world.net, world.net.site.public_ipv4.rpartition(".")[0]
    net.leave_ipv6()
    net.wait_until_direct()

    def renew(address: str) -> float:
        gap_s = net.gap_s(lambda: faults.change_address(world.a, "eth0", f"{address}/24"))
        net.wait_until_direct()
        return gap_s

    gaps = [renew(address) for address in (f"{prefix}.77", net.site.public_ipv4)]
    net.take_ipv6()
    return gaps


def link_flaps(world: World) -> list[float]:
    """The cable of the first uplink, at 1 Hz; the second one has no route."""
    wire = world.net.site.wire
    assert wire is not None

    def flap() -> None:
        for _ in range(FLAPS):
            wire.unplug()
            time.sleep(0.5)
            wire.plug()
            time.sleep(0.5)

    return [world.recovery_s(flap)]


# Clocks, and sleep


def wall_clock_steps(world: World) -> list[float]:
    def step() -> None:
        for ahead_s in (DAY_S, -DAY_S, 30 * DAY_S, 0):
            world.clocks.set(wall_ahead_s=ahead_s, boot_ahead_s=world.slept_s)
            time.sleep(1)

    return [world.net.gap_s(step)]


def wakes(world: World) -> list[float]:
    """For a's daemon eight hours have passed by the clocks that count sleep: keys and mappings are old."""
    world.slept_s += DAY_S // 3
    return [world.net.gap_s(lambda: world.clocks.set(boot_ahead_s=world.slept_s), after_s=8.0)]


def paused(world: World) -> list[float]:
    """SIGSTOP and SIGCONT of the daemon; what counts begins with the latter."""
    pid = world.net.a.inspect()["pid"]

    def pause() -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(PAUSE_S)
        os.kill(pid, signal.SIGCONT)

    return [world.recovery_s(pause)]


# 0nc, which is a node of its own


@contextmanager
def stream(world: World) -> Iterator[list[float]]:
    """From a to b a few bytes each 10 ms, over 0nc. Yields when some of them came, Unix seconds; it grows."""
    log = world.net.b.host.directory / f"0nc-{time.monotonic_ns()}"
    boots = [
        f"--bootstrap={node.key}@{site.public_ipv4}:{PORT}"
        for node, site in zip(world.net.publics.nodes, world.net.publics.sites, strict=True)
    ]
    with log.open("w") as events:
        receiver = world.net.b.host.popen(
            ["0nc", "--json", *boots], stdout=subprocess.PIPE, stderr=events.fileno()
        )
    word = wait_until(lambda: _invitation(log), 20, "0nc prints its invitation")
    sender = world.a.popen(["0nc", "--json", word], stdin=subprocess.PIPE)
    assert receiver.stdout is not None and sender.stdin is not None
    source, sink = receiver.stdout.fileno(), sender.stdin.fileno()
    arrived: list[float] = []
    over = threading.Event()

    def read() -> None:
        while os.read(source, 1 << 16):
            arrived.append(time.time())

    def write() -> None:
        while not over.wait(0.01):
            os.write(sink, bytes(100))
        sender.stdin.close()  # type: ignore[union-attr]

    threads = [threading.Thread(target=each, daemon=True) for each in (read, write)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(arrived) > 100, 30, "the stream flows")
    try:
        yield arrived
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
        for process in (sender, receiver):
            process.wait(30)


def _invitation(log: Path) -> str:
    events = (json.loads(line) for line in log.read_text().split("\n")[:-1] if line.startswith("{"))
    return next((str(each["text"]) for each in events if each["event"] == "invitation"), "")


def uplink_changes_under_0nc(world: World) -> list[float]:
    """a leaves its first uplink for the second one while a stream flows."""
    net = world.net
    with stream(world) as arrived:
        time.sleep(2)  # until the path is what it stays
        began = time.time()
        for version in ("-4", "-6"):
            world.a.ip(version, "address", "flush", "dev", "eth0", "scope", "global")
        net.default_by(1)
        wait_until(lambda: arrived[-1] > began + 0.5, RECOVERY_MAX_S, "the stream goes on")
        time.sleep(5)
        times = [each for each in arrived if each > began - 1]
    world.a.assign("eth0", f"{net.site.public_ipv4}/24", f"{net.site.ipv6}/64")
    net.default_by(0)
    return [max(later - one for one, later in pairwise(times))]


# Networks that want something


ANSWER = b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n"
PORTAL = """table inet portal {{
  chain forward {{
    type filter hook forward priority -10;
    ip saddr {{ {v4} }} drop
    ip6 saddr {{ {v6} }} drop
    ip daddr {{ {v4} }} drop
    ip6 daddr {{ {v6} }} drop
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip saddr {{ {v4} }} tcp dport {{ 80, 443 }} redirect to :{port}
    ip6 saddr {{ {v6} }} tcp dport {{ 80, 443 }} redirect to :{port}
  }}
}}
"""


def _listen() -> socket.socket:
    return socket.create_server(("::", PORTAL_PORT), family=socket.AF_INET6, dualstack_ipv6=True)


@contextmanager
def portal(world: World) -> Iterator[None]:
    """The ISP lets nothing of a's through, and answers its connections to web servers itself."""
    net = world.net
    second = [address.split("/")[0] for address in net.second.addresses(2)]
    rules = PORTAL.format(
        v4=f"{net.site.public_ipv4}, {second[0]}", v6=f"{net.site.ipv6}, {second[1]}", port=PORTAL_PORT
    )
    listener = inside(net.internet.isp, _listen)
    listener.settimeout(0.2)
    over = threading.Event()

    def answer() -> None:
        while not over.is_set():
            try:
                client = listener.accept()[0]
            except TimeoutError:
                continue
            with client:
                client.sendall(ANSWER)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    net.internet.isp.run(["nft", "-f", "-"], input=rules)
    try:
        yield
    finally:
        net.internet.isp.run(["nft", "delete", "table", "inet", "portal"])
        over.set()
        thread.join()
        listener.close()


def captive_portal(world: World) -> list[float]:
    """From the moment on that it lets everything through."""

    def log_in_late() -> None:
        with portal(world):
            time.sleep(PORTAL_S)

    return [world.recovery_s(log_in_late)]


@dataclass(frozen=True)
class Fault:
    """goal_s: of the median. quick: it takes less than 10 s."""

    name: str
    play: Callable[[World], list[float]]
    goal_s: float
    quick: bool = False


FAULTS = (
    Fault("interface's addresses flushed", _taken("address", "flush", "dev", INTERFACE), 0.5, quick=True),
    Fault("interface's routes flushed", _taken("route", "flush", "dev", INTERFACE), 0.5, quick=True),
    Fault("interface set down", _taken("link", "set", INTERFACE, "down"), 0.5),
    Fault("interface's MTU set to 1000", _taken("link", "set", INTERFACE, "mtu", "1000"), 0.5),
    Fault("policy rule changed, the former uplink dead", rule_changed, 1.5),
    Fault("default route moved, both uplinks alive", default_route_moved, 1.0),
    Fault("IPv4-only to IPv6-only, and back", ipv4_to_ipv6, 2.0),
    Fault("container started and stopped 20 times", containers, 0.1),
    Fault("a further address comes and goes, 5 times", addresses_come_and_go, 0.1),
    Fault("DHCP renewal with another address", renewed_with_another_address, 2.0),
    Fault("link flaps at 1 Hz for 5 s: after the last plugging", link_flaps, 2.0),
    Fault("wall clock steps by days, both ways", wall_clock_steps, 0.1),
    Fault("daemon wakes after 8 h", wakes, 2.0),
    Fault("daemon stopped for 3 s: after SIGCONT", paused, 0.5, quick=True),
    Fault("uplink change under 0nc", uplink_changes_under_0nc, 2.0),
    Fault("captive portal of 15 s: after it has opened", captive_portal, 15.0),
)
