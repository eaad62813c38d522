"""What befalls a host's network, its clocks and its daemon, once each. bench-faults measures them for
docs/faults.md."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from labnet import Lab, LabError, wait_until
from nat64 import Nat64
from network_faults import FAULTS, Fault, World

SLACK_S = 2.0
"""Beside the goal of the median: the machine may be busy."""
NAMES_S = 20.0
LEARN_S = 40.0


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Lab("faults", log=print) as lab:
        yield World.make(lab)


def cases() -> Iterator[object]:
    """The quick ones first, before the others leave their traces."""
    for fault in sorted(FAULTS, key=lambda fault: not fault.quick):
        yield pytest.param(fault, id=fault.name, marks=[] if fault.quick else [pytest.mark.slow])


@pytest.mark.parametrize("fault", list(cases()))
def test_the_overlay_gets_over(world: World, fault: Fault) -> None:
    if "IPv6" in fault.name:
        time.sleep(LEARN_S)  # until what public nodes say of themselves is known
    gaps = fault.play(world)
    print(f"{fault.name}: {gaps}")
    assert max(gaps) < fault.goal_s + SLACK_S
    world.net.wait_until_direct()


@pytest.mark.slow
def test_names_that_come_after_the_daemon(world: World) -> None:
    """The public nodes are named, and for the first seconds nobody knows the names: by the clock they are
    asked again after 7 and 15 s."""
    host, node = world.a, world.net.a
    known = host.hosts_file.read_text()
    node.down()
    others = [line for line in known.splitlines() if "public" not in line and "wirehub" not in line]
    host.hosts_file.write_text("\n".join([*others, ""]))
    node.up(world.net.file(by_name=True))
    time.sleep(8)
    host.hosts_file.write_text(known)
    host.ip("link", "add", "noise0", "type", "bridge")
    came = time.monotonic()
    wait_until(lambda: node.inspect()["dht"]["servers"] > 0, NAMES_S, "public nodes answer")
    took_s = time.monotonic() - came
    print(f"names known after the daemon started: {took_s:.2f} s")
    host.ip("link", "del", "noise0")
    assert took_s < 2.0


@pytest.mark.slow
def test_a_network_of_ipv6_alone_with_nat64(lab: Lab) -> None:
    """All others have IPv4 alone. Twice within seconds: names are asked again after each change."""
    try:
        world = Nat64(lab)
    except LabError as error:
        pytest.skip(str(error))
    for _ in range(2):
        assert world.enter_s() < 5 + SLACK_S
        assert world.leave_s() < 2 + SLACK_S
