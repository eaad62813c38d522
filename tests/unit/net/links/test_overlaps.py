"""Networks of the host that share addresses with the overlay's subnet."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from wh.net.links.overlaps import find_overlap
from wh.net.links.rtnetlink import ForeignRoute, InterfaceAddress, Link, LinkAddress

SUBNET = ip_network("10.0.42.0/24")
OWN, LAN, DOWN = 2, 3, 4


class Host:
    """addresses: of the LAN's link. routes: (destination, gateway or None) by it."""

    def __init__(
        self, *addresses: str, routes: tuple[tuple[str, str | None], ...] = (), link: int = LAN
    ) -> None:
        self._addresses, self._routes, self._link = addresses, routes, link

    def links(self) -> list[Link]:
        return [
            Link(OWN, "wh0", True, 1408),
            Link(LAN, "eth0", True, 1500),
            Link(DOWN, "eth1", False, 1500),
        ]

    def addresses(self) -> list[LinkAddress]:
        found = [LinkAddress(OWN, InterfaceAddress(ip_address("10.0.42.2"), 24), True)]
        for text in self._addresses:
            ip, _, bits = text.partition("/")
            found.append(LinkAddress(self._link, InterfaceAddress(ip_address(ip), int(bits)), True))
        return found

    def other_routes(self, version: int, ifindex: int) -> list[ForeignRoute]:
        assert (version, ifindex) == (4, OWN)
        return [
            ForeignRoute(ip_network(to), self._link, None if via is None else ip_address(via))
            for to, via in self._routes
        ]


@pytest.mark.parametrize(
    "host",
    [
        Host("10.0.42.77/24"),
        Host("10.0.7.7/16"),
        Host("10.0.42.129/25"),
        Host(routes=(("10.0.42.0/24", "192.0.2.1"),)),
        Host(routes=(("10.0.42.128/25", None),)),
    ],
)
def test_networks_that_the_host_is_in_or_has_a_narrow_way_to(host: Host) -> None:
    overlap = find_overlap(host, OWN, SUBNET)
    assert list(overlap.networks) == ["eth0"]
    (warning,) = overlap.warnings(SUBNET, [])
    assert "eth0" in str(warning) and "10.0.42.0/24" in str(warning)


@pytest.mark.parametrize(
    "host",
    [
        Host("192.168.1.2/24", routes=(("0.0.0.0/0", "192.168.1.1"), ("10.0.0.0/8", None))),
        Host("10.0.43.7/24"),
        Host("10.0.42.9/32"),
        Host("10.0.42.9/24", link=DOWN),
    ],
)
def test_wide_routes_and_links_that_are_down_are_none(host: Host) -> None:
    assert find_overlap(host, OWN, SUBNET) == ({}, frozenset())


def test_a_gateway_in_the_subnet_is_told_where_it_is_a_member_s() -> None:
    gateway = ip_address("10.0.42.3")
    overlap = find_overlap(Host(routes=(("0.0.0.0/0", str(gateway)),)), OWN, SUBNET)
    assert overlap == ({}, frozenset({gateway}))
    assert overlap.warnings(SUBNET, [ip_address("10.0.42.4")]) == ()
    (warning,) = overlap.warnings(SUBNET, [gateway])
    assert "10.0.42.3 is a gateway" in str(warning)
