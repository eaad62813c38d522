"""A node behind a router with miniupnpd gets a port mapped, uses it when it is proved, and gives it back."""

from __future__ import annotations

import time

import pytest

from internet import PORT_MAPPERS, Internet, Site
from labnet import Lab, wait_until
from miniupnpd import mappings, requests, start_miniupnpd, stop_miniupnpd
from nodes import Node, PublicNodes, members_file

MAPPED_S = 10.0
PROVED_S = 20.0
REMAPPED_S = {"nat-pmp": 20.0, "upnp": 100.0}
WH_UP_LIMIT_S = 10.0
"""Loose: the machine may be busy. What waited for a silent gateway would take longer than that."""
SHORT_LEASE_S = 12

KINDS = pytest.mark.parametrize("kind", PORT_MAPPERS)


def node_at(lab: Lab, kind: str) -> tuple[Site, Node, str]:
    """A site, its node, and the file to start it with; the public nodes run."""
    internet = Internet(lab)
    publics = PublicNodes(internet)
    site = internet.site("site", kind)
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


@pytest.mark.parametrize("kind", ["nat-pmp", pytest.param("upnp", marks=pytest.mark.slow)])
def test_mapping_comes_back_when_the_router_lost_it(lab: Lab, kind: str) -> None:
    """By NAT-PMP and PCP the router says so; a UPnP gateway is asked each minute."""
    site, node, file = node_at(lab, kind)
    router = site.routers[0]
    node.up(file)
    wait_until(lambda: len(mappings(router)) == 1, MAPPED_S, "the port is mapped")
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
