"""Somebody between two nodes copies their datagrams, from its own addresses, by a shorter way: it gets no
path."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from internet import Internet, Site
from labnet import Lab, join_devices
from nodes import PORT, Node, in_parallel, wait_for_state
from timed_ping import TimedPing, lost

PROGRAM = Path(__file__).with_name("copy_datagrams.py")
ATTACK_S = 5.0
DIRECT_S = 30.0


def shorter_way(internet: Internet, site: Site, number: int) -> tuple[str, str]:
    """From the ISP to the host, beside the wire that delays. Returns the ISP's device and its address."""
    device, own = f"back{number}", f"198.18.{number}.1"
    join_devices(internet.isp, device, site.host, "back")
    internet.isp.assign(device, f"{own}/32")
    internet.isp.ip("rule", "add", "oif", device, "table", str(100 + number))
    internet.isp.ip("route", "add", "default", "dev", device, "table", str(100 + number))
    site.host.ip("link", "set", "back", "up")
    site.host.ip("route", "add", f"{own}/32", "dev", "back", "src", site.public_ipv4)
    return device, own


def test_whoever_copies_datagrams_faster_gets_no_path(lab: Lab) -> None:
    internet = Internet(lab, publics=2, delay_s=0.02)
    ways = [shorter_way(internet, site, number) for number, site in enumerate(internet.publics, 1)]
    nodes = [Node(site.host, site.name) for site in internet.publics]
    lines = ["name members", "subnet 10.42.0.0/24"]
    for site, node in zip(internet.publics, nodes, strict=True):
        lines += [f"boot {node.key} {site.public_ipv4}:{PORT}", f"trust {node.name} {node.key}"]
    in_parallel(lambda node: node.up("\n".join([*lines, ""]), "mode", "direct"), nodes)
    ping = TimedPing(nodes[0].host, nodes[1].name)
    for one, other in (nodes, nodes[::-1]):
        wait_for_state(one, other, "direct", DIRECT_S)
    ping.wait_for_replies(10)

    words = [
        (f"port{number}", site.public_ipv4, *way)
        for number, (site, way) in enumerate(zip(internet.publics, ways, strict=True), 1)
    ]
    copier = internet.isp.popen(
        [sys.executable, PROGRAM, *words[0], *words[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert copier.stdout is not None
    assert copier.stdout.readline() == "ready\n"
    endpoints = set()
    until = time.monotonic() + ATTACK_S
    while time.monotonic() < until:
        for (one, other), site in zip((nodes, nodes[::-1]), internet.publics[::-1], strict=True):
            endpoints.add((site.name, one.peer(other)["endpoint"]))
        time.sleep(0.05)
    output, _ = copier.communicate(timeout=10)
    copied, passed_on = map(int, output.split())
    assert endpoints == {(site.name, f"{site.public_ipv4}:{PORT}") for site in internet.publics}
    assert copied > 50
    assert passed_on > 0
    ping.wait_for_replies(20)
    assert lost(ping.stop()) <= 1
