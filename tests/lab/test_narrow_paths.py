"""Paths that carry less than the 1,280 bytes that IPv6 asks of every link are found out, and used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import faults
from cells import Cell
from internet import Internet
from labnet import Lab, Router, wait_until
from nodes import INTERFACE, UNLIMITED_RELAYS, Node, PublicNodes
from timed_ping import TimedPing
from wireguard_ends import Iperf3Server, iperf3_summary

RATE_BIT_S = 20e6
OUTER_HEADERS = 20 + 8 + 32
CHANNEL_HEADER = 8
INNER_HEADERS = 20 + 20 + 12
SHARE = 0.8
KNOWN_S = 20.0
"""Within which the nodes are connected, and have measured; they do so beside each other."""

NOTICED_S = 15.0


@contextmanager
def pair(lab: Lab, kind: str, largest: int, *, publics: int = 2) -> Iterator[Cell]:
    """Two members behind NATs of that kind; the ISP swallows longer packets of anybody."""
    internet = Internet(lab, publics=publics, delay_s=0.001)
    faults.swallow_longer_than(internet.isp, largest)
    servers = PublicNodes(internet)
    cell = Cell(internet, servers, (kind, kind), "n")
    servers.up(*UNLIMITED_RELAYS)
    cell.up()
    ping = TimedPing(cell.nodes[0].host, cell.nodes[1].name)
    ping.wait_for_replies(3, KNOWN_S)
    yield cell
    ping.stop()


def rate_bit_s(cell: Cell, address: str) -> float:
    wire = cell.sites[0].wire
    assert wire is not None
    wire.change(rate_bit_s=RATE_BIT_S)
    a, b = cell.nodes
    client = Iperf3Server(b.host).start_client(a.host, b.inspect()[address], "-t3")
    return float(iperf3_summary(client)["sum_received"]["bits_per_second"])


def test_tcp_has_what_a_path_of_1200_bytes_allows(lab: Lab) -> None:
    """It had nothing: the path was 'direct, MTU 1280', or none."""
    with pair(lab, "port-restricted", 1200) as cell:
        a, b = cell.nodes
        wait_until(lambda: a.peer(b)["mtu"] == b.peer(a)["mtu"] == 1200, KNOWN_S, "both know the MTU")
        allowed = RATE_BIT_S * (1200 - OUTER_HEADERS - INNER_HEADERS) / 1200
        rate = rate_bit_s(cell, "address")
        print(f"{rate / 1e6:.1f} of {allowed / 1e6:.1f} Mbit/s")
        assert rate > SHARE * allowed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "largest", "mtu"),
    [("random", 1200, 1200), ("port-restricted", 1100, 1024), ("port-restricted", 576, 576)],
)
@pytest.mark.parametrize("address", ["address", "orchid"])
def test_narrower_paths_and_channels_carry_tcp_of_both_families(
    lab: Lab, kind: str, largest: int, mtu: int, address: str
) -> None:
    """Hosts make no IPv6 packets under 1,280 bytes, nor Linux any of IPv4 under 552: they go in fragments."""
    with pair(lab, kind, largest) as cell:
        a, b = cell.nodes
        wait_until(lambda: a.peer(b)["mtu"] == b.peer(a)["mtu"] == mtu, KNOWN_S, "both know the MTU")
        outer = OUTER_HEADERS + (CHANNEL_HEADER if kind == "random" else 0)
        allowed = RATE_BIT_S * (mtu - outer - INNER_HEADERS) / mtu
        rate = rate_bit_s(cell, address)
        print(f"{kind} {largest} {address}: {rate / 1e6:.1f} of {allowed / 1e6:.1f} Mbit/s")
        assert rate > SHARE * allowed


@pytest.mark.slow
def test_a_link_of_ones_own_with_an_mtu_of_1200(lab: Lab) -> None:
    """The kernel refuses what is longer, which is no reason to give up."""
    with pair(lab, "port-restricted", 1500) as cell:
        a, b = cell.nodes
        a.down()
        a.host.ip("link", "set", "eth0", "mtu", "1200")
        a.up((a.host.directory / "network").read_text())
        wait_until(lambda: a.peer(b)["mtu"] == 1200, KNOWN_S, "it knows the MTU")
        assert rate_bit_s(cell, "address") > SHARE * RATE_BIT_S * 0.9


def finds(one: Node, other: Node) -> bool:
    return one.host.run(["wh", "lookup", INTERFACE, other.key], check=False).returncode == 0


@pytest.mark.slow
def test_members_are_found_where_all_that_servers_know_does_not_fit_into_a_packet(lab: Lab) -> None:
    """Nobody was found: answers with all the contacts that were asked for have 800 bytes."""
    with pair(lab, "port-restricted", 576, publics=14) as cell:
        a, b = cell.nodes
        assert a.inspect()["dht"]["servers"] > 12
        wait_until(lambda: finds(a, b), KNOWN_S, "it is found")


@pytest.mark.slow
def test_routers_may_cut_what_is_no_data(lab: Lab) -> None:
    """As IPv4 routers with a narrower link do."""
    internet = Internet(lab, publics=14, delay_s=0.001)
    servers = PublicNodes(internet)
    cell = Cell(internet, servers, ("port-restricted", "port-restricted"), "n")
    for site in cell.sites:
        to_site = internet.isp.ip("route", "get", site.public_ipv4).split("dev ")[1].split()[0]
        internet.isp.ip("link", "set", to_site, "mtu", "576")
        site.routers[0].ip("link", "set", "wan", "mtu", "576")
    servers.up()
    cell.up()
    a, b = cell.nodes
    ping = TimedPing(a.host, b.name)
    wait_until(lambda: finds(a, b), KNOWN_S, "it is found")
    wait_until(lambda: a.peer(b)["mtu"] == 576, KNOWN_S, "probes are not cut")
    ping.stop()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["port-restricted", "random"])
def test_a_path_that_narrows_beside_a_ping_carries_tcp_again(lab: Lab, kind: str) -> None:
    """Nothing is silent there, so that it was found out within a minute only."""
    with pair(lab, kind, 1500) as cell:
        a, b = cell.nodes
        wait_until(lambda: a.peer(b)["mtu"] == b.peer(a)["mtu"] == 1496, KNOWN_S, "both know the MTU")
        isp = next(each for each in lab.hosts if isinstance(each, Router) and each.name == "isp")
        faults.swallow_nothing(isp)
        faults.swallow_longer_than(isp, 1200)
        began = time.monotonic()
        client = Iperf3Server(b.host).start_client(a.host, b.inspect()["address"], "-t20")
        wait_until(lambda: a.peer(b)["mtu"] == 1200, NOTICED_S, "it is noticed")
        print(f"{kind}: noticed after {time.monotonic() - began:.1f} s")
        assert iperf3_summary(client, 40)["sum_received"]["bits_per_second"] > 10e6
