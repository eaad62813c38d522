"""Whether a source still takes the way that it took, by the real kernel's routes and rules."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address

import pytest
from own_namespace import in_namespace, ip, needs_namespace

from wh.net.links import tun
from wh.net.links.netlink_socket import NetlinkSocket, open_netlink
from wh.net.links.source_routes import SourceRoutes, Use
from wh.wire.address import pack

PEER = pack(ip_address("198.51.100.9"), 7777)
FIRST, SECOND = "192.0.2.2", "203.0.113.2"

pytestmark = needs_namespace


class Uplinked:
    """Two uplinks, eth0 and eth1, each with an address and a gateway; the default route is by the first."""

    def __init__(self, kernel: NetlinkSocket) -> None:
        self.kernel = kernel
        self.routes = SourceRoutes()
        self.uses = [self.use(FIRST, "eth0"), self.use(SECOND, "eth1")]

    def use(self, address: str, device: str) -> Use:
        link = socket.if_nametoindex(device).to_bytes(4, "little")
        return Use(PEER, pack(ip_address(address), 0)[:16] + link)

    def refused_after(self, *changes: str) -> list[str]:
        """Which uplinks."""
        self.routes.learn(self.kernel, self.uses)
        for change in changes:
            ip(*change.split())
        refused = self.routes.refused(self.kernel, self.uses)
        return [f"eth{number}" for number, use in enumerate(self.uses) if use in refused]


@contextmanager
def two_uplinks() -> Iterator[Uplinked]:
    fds = [fd for name in ("eth0", "eth1") for fd in tun.open_tun(name)]
    for number, address in enumerate((FIRST, SECOND)):
        ip("address", "add", f"{address}/24", "dev", f"eth{number}")
        ip("link", "set", f"eth{number}", "up")
    ip("route", "add", "default", "via", "192.0.2.1")
    ip("route", "add", "default", "via", "203.0.113.1", "metric", "200")
    with closing(open_netlink()) as kernel:
        yield Uplinked(kernel)
    tun.close_all(fds)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ([], []),
        (["link add noise type bridge", "address add 172.17.0.1/16 dev noise", "link set noise up"], []),
        (["rule add pref 50 to 10.0.0.0/8 lookup 200"], []),
        (["route replace default via 192.0.2.254"], []),  # another router on the same link
        (["address del 192.0.2.2/24 dev eth0"], ["eth0"]),
        (["link set eth0 down"], ["eth0"]),
        (["route del default via 192.0.2.1"], ["eth0"]),
        (["route del default via 203.0.113.1"], ["eth1"]),
        (["route replace default via 203.0.113.1"], ["eth0"]),
        (
            ["route add default via 203.0.113.1 table 200", "rule add pref 50 from 192.0.2.2 lookup 200"],
            ["eth0"],
        ),
        (["route add unreachable 198.51.100.0/24"], ["eth0", "eth1"]),
        (["route add 198.51.100.9 via 203.0.113.1"], ["eth0"]),
    ],
)
def test_what_takes_another_way_is_refused(changes: list[str], refused: list[str]) -> None:
    def body() -> None:
        with two_uplinks() as host:
            assert host.refused_after(*changes) == refused

    in_namespace(body)


def test_the_way_back_is_the_old_way() -> None:
    def body() -> None:
        with two_uplinks() as host:
            assert host.refused_after("route replace default via 203.0.113.1") == ["eth0"]
            assert host.refused_after("route replace default via 192.0.2.1") == []

    in_namespace(body)


def test_rules_of_our_mark_count() -> None:
    def body() -> None:
        with two_uplinks() as host:
            ip("route", "add", "default", "via", "203.0.113.1", "table", "200")
            rule = "rule add pref 50 fwmark 0x7 lookup 200"
            assert host.refused_after(rule) == []
            ip("rule", "del", "pref", "50")
            host.routes = SourceRoutes(lambda: 7)
            assert host.refused_after(rule) == ["eth0"]

    in_namespace(body)
