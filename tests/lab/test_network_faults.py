"""How long pings in the overlay are without an answer after what befalls a host's network: ten times each, on
wires of 20 ms. `-s` prints the rows of docs/faults.md."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from labnet import Lab, wait_until
from nodes import INTERFACE
from test_multihomed import container_starts_and_stops
from two_uplinks import TwoUplinks

pytestmark = pytest.mark.slow

TIMES = 10
REST_S = 2.0
NAMES_S = 20.0


@pytest.fixture(scope="module")
def world() -> Iterator[TwoUplinks]:
    with Lab("faults", log=print) as lab:
        yield TwoUplinks.make(lab)


def measure(world: TwoUplinks, name: str, *events: Callable[[], object], goal_s: float) -> None:
    """events: in turn, each of which leaves what the next one needs."""
    gaps = []
    for number in range(TIMES):
        gaps.append(world.gap_s(events[number % len(events)]))
        world.wait_until_direct()
        time.sleep(REST_S)
    median, worst = statistics.median(gaps), max(gaps)
    print(f"| {name} | {median:.2f} s | {worst:.2f} s | {goal_s:g} s |")
    assert median < goal_s


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("addresses flushed", ("address", "flush", "dev", INTERFACE)),
        ("routes flushed", ("route", "flush", "dev", INTERFACE)),
        ("link set down", ("link", "set", INTERFACE, "down")),
        ("MTU set to 1000", ("link", "set", INTERFACE, "mtu", "1000")),
    ],
)
def test_what_others_take_from_the_interface(world: TwoUplinks, name: str, change: tuple[str, ...]) -> None:
    measure(world, name, lambda: world.a.host.ip(*change), goal_s=0.5)


def test_rules(world: TwoUplinks) -> None:
    with world.second_by_rule() as divert:
        measure(world, "policy rule changed, first uplink dead", divert, world.undivert, goal_s=1.5)


def test_default_route(world: TwoUplinks) -> None:
    moves = [lambda to=to: world.default_by(to) for to in (1, 0)]
    measure(world, "default route moved, both uplinks alive", *moves, goal_s=1.0)


def test_ipv6_only(world: TwoUplinks) -> None:
    """From a network with IPv4 alone into one with IPv6 alone, and back."""

    def to_ipv6() -> None:
        world.take_ipv6()
        world.leave_ipv4()

    def to_ipv4() -> None:
        world.take_ipv4()
        world.leave_ipv6()

    time.sleep(40)  # what public nodes say of themselves is known then
    world.leave_ipv6()
    world.wait_until_direct()
    measure(world, "IPv4-only to IPv6-only, and back", to_ipv6, to_ipv4, goal_s=2.0)
    world.take_ipv6()


def test_containers(world: TwoUplinks) -> None:
    gap_s = world.gap_s(lambda: container_starts_and_stops(world.a.host, 20))
    print(f"| container started and stopped 20 times | {gap_s:.2f} s | {gap_s:.2f} s | 0.1 s |")
    assert gap_s < 1.0


def test_names_that_come_after_the_daemon(world: TwoUplinks) -> None:
    """The public nodes are named, and for the first seconds nobody knows the names: by the clock they are
    asked again after 7 and 15 s."""
    host = world.a.host
    known = host.hosts_file.read_text()
    world.a.down()
    others = [line for line in known.splitlines() if "public" not in line and "wirehub" not in line]
    host.hosts_file.write_text("\n".join([*others, ""]))
    world.a.up(world.file(by_name=True))
    time.sleep(8)
    host.hosts_file.write_text(known)
    host.ip("link", "add", "noise0", "type", "bridge")
    came = time.monotonic()
    wait_until(lambda: world.a.inspect()["dht"]["servers"] > 0, NAMES_S, "public nodes answer")
    took_s = time.monotonic() - came
    print(f"| names known after the daemon started | {took_s:.2f} s | {took_s:.2f} s | |")
    host.ip("link", "del", "noise0")
    assert took_s < 2.0
