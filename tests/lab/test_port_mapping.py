"""A node behind a router with miniupnpd gets a port mapped, uses it when it is proved, and gives it back."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from inside import inside
from internet import PORT_MAPPERS, Internet, Site
from labnet import Lab, Router, wait_until
from miniupnpd import mappings, requests, start_miniupnpd, stop_miniupnpd
from nodes import INTERFACE, Node, PublicNodes, members_file
from wh.net.links.host import host_gateways

MAPPED_S = 10.0
PROVED_S = 20.0
EPOCH_TELLS_S = 5.0
"""A router that was up for less looks as before after a restart (RFC 6886 3.6 allows its clock 2 s)."""

REMAPPED_S = {"nat-pmp": 20.0, "upnp": 100.0}
WH_UP_LIMIT_S = 10.0
"""Loose: the machine may be busy. What waited for a silent gateway would take longer than that."""
SHORT_LEASE_S = 12

KINDS = pytest.mark.parametrize("kind", PORT_MAPPERS)


def node_at(lab: Lab, kind: str, *, ipv6: bool = False) -> tuple[Site, Node, str]:
    """A site, its node, and the file to start it with; the public nodes run."""
    internet = Internet(lab)
    publics = PublicNodes(internet)
    site = internet.site("site", kind, ipv6=ipv6)
    node = Node(site.host, "node")
    publics.up()
    return site, node, members_file(publics, [node])


@KINDS
def test_mapping_is_made_and_proved_and_removed(lab: Lab, kind: str) -> None:
    site, node, file = node_at(lab, kind)
    router = site.routers[0]
    node.up(file)
    wait_until(lambda: len(mappings(router)) == 1, MAPPED_S, "the port is mapped")
    wait_until(lambda: node.inspect()["reachability"] == "direct", PROVED_S, "a stranger's packet came in")
    (candidate,) = node.inspect()["candidates"]
    address, _, port = candidate.rpartition(":")
    assert address == site.public_ipv4
    assert f"dport {port} dnat ip to 192.168.1.2:{node.inspect()['listen_port']}" in mappings(router)[0]
    node.down()
    assert mappings(router) == []


def test_no_router_is_asked_where_the_user_does_not_want_it(lab: Lab) -> None:
    site, node, file = node_at(lab, "nat-pmp")
    node.up(file, "no-port-mapping")
    wait_until(lambda: netcheck(node)["udp"] == "works", PROVED_S, "servers have answered")
    assert requests(site.routers[0]) == 0
    assert "no gateway was asked" in node.host.run(["wh", "netcheck"]).stdout


@pytest.mark.parametrize("kind", ["nat-pmp", pytest.param("upnp", marks=pytest.mark.slow)])
def test_mapping_comes_back_when_the_router_lost_it(lab: Lab, kind: str) -> None:
    """By NAT-PMP and PCP the router says so; a UPnP gateway is asked each minute."""
    site, node, file = node_at(lab, kind)
    started = time.monotonic()
    router = site.routers[0]
    node.up(file)
    wait_until(lambda: len(mappings(router)) == 1, MAPPED_S, "the port is mapped")
    wait_until(lambda: time.monotonic() - started > EPOCH_TELLS_S, 2 * EPOCH_TELLS_S, "its clock tells")
    assert site.miniupnpd is not None
    stop_miniupnpd(router, site.miniupnpd)
    start_miniupnpd(router, PORT_MAPPERS[kind])
    wait_until(lambda: len(mappings(router)) == 1, REMAPPED_S[kind], "it is mapped again")


@pytest.mark.slow
def test_short_lease_is_renewed(lab: Lab) -> None:
    site, node, file = node_at(lab, "nat-pmp")
    router = site.routers[0]
    assert site.miniupnpd is not None
    stop_miniupnpd(router, site.miniupnpd)
    start_miniupnpd(router, PORT_MAPPERS["nat-pmp"], lifetime_max_s=SHORT_LEASE_S)
    node.up(file)
    wait_until(lambda: len(mappings(router)) == 1, MAPPED_S, "the port is mapped")
    wait_until(lambda: requests(router) >= 4, 3 * SHORT_LEASE_S, "it is asked for again and again")
    assert len(mappings(router)) == 1


@pytest.mark.parametrize("kind", ["port-restricted", "udp-blocked"])
def test_router_without_any_mapper_delays_nothing(lab: Lab, kind: str) -> None:
    _, node, file = node_at(lab, kind)
    started = time.monotonic()
    node.up(file)
    assert time.monotonic() - started < WH_UP_LIMIT_S
    started = time.monotonic()
    node.down()
    assert time.monotonic() - started < WH_UP_LIMIT_S


def netcheck(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.host.run(["wh", "netcheck", INTERFACE, "json"]).stdout)
    return found


def held(node: Node) -> list[dict[str, Any]]:
    return [each for each in netcheck(node)["port_mappings"] if each["state"] == "maps"]


def pinholes(router: Router) -> list[str]:
    """The rules by which miniupnpd lets IPv6 packets through."""
    listing = router.run(["nft", "-n", "list", "chain", "inet", "filter", "miniupnpd"]).stdout
    return [line.strip() for line in listing.splitlines() if "@nh,192,128" in line]


def live_behind_a_link_local_gateway(site: Site) -> None:
    """As router advertisements have it."""
    listing = site.routers[-1].ip("-6", "-o", "address", "show", "dev", "lan", "scope", "link")
    gateway = listing.split()[3].split("/")[0]
    site.host.ip("-6", "route", "replace", "default", "via", gateway, "dev", "eth0")


def test_pinhole_for_our_ipv6_address_is_opened_and_closed(lab: Lab) -> None:
    site, node, file = node_at(lab, "nat-pmp", ipv6=True)
    router = site.routers[0]
    live_behind_a_link_local_gateway(site)
    node.up(file)
    wait_until(lambda: len(pinholes(router)) == 1, MAPPED_S, "the firewall is open for our address")
    told = {each["version"]: each["external"] for each in held(node)}
    assert told[6] == f"[{site.ipv6}]:{node.inspect()['listen_port']}"
    assert told[4].startswith(site.public_ipv4)
    node.down()
    assert pinholes(router) == []


def test_gateways_are_those_on_the_way_out(lab: Lab) -> None:
    network, host = lab.network("net"), lab.host("host")
    host.attach(network, "192.168.1.2/24", "2001:db8::2/64")
    assert inside(host, host_gateways) == {}
    host.default_route("192.168.1.1")
    host.ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
    found = {version: tuple(map(str, each)) for version, each in inside(host, host_gateways).items()}
    ifindex = host.ip("-o", "link", "show", "eth0").partition(":")[0]
    assert found == {
        4: ("192.168.1.1", "192.168.1.2", ifindex),
        6: ("fe80::1", "2001:db8::2", ifindex),
    }
    host.ip("route", "replace", "unreachable", "default", "metric", "0")
    assert 4 not in inside(host, host_gateways)


@KINDS
def test_netcheck_tells_what_the_router_does_and_whether_it_is_true(lab: Lab, kind: str) -> None:
    _, node, file = node_at(lab, kind)
    node.up(file)
    wait_until(lambda: any(each["verified"] for each in held(node)), PROVED_S, "the mapping is proved")
    (mapping,) = held(node)
    assert mapping["protocol"] == {"nat-pmp": "PCP", "upnp": "UPnP IGD"}[kind]
    assert mapping["external"] in node.inspect()["candidates"]
    assert netcheck(node)["udp"] == "works"
    assert "reached from outside" in node.host.run(["wh", "netcheck"]).stdout
