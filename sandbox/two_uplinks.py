"""Two members with public addresses of both families, of which one has two uplinks, and two public nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from internet import Internet, Site, Subnet
from labnet import Lab, LabError
from nodes import Node, PublicNodes, in_parallel, members_file, wait_for_state
from timed_ping import TimedPing, longest_gap_s

DELAY_S = 0.02
PING_S = 0.02
DIRECT_S = 20.0
SETTLED_S = 40.0
"""An event is over when a ping was answered again; nobody waits longer."""


@dataclass
class TwoUplinks:
    internet: Internet
    publics: PublicNodes
    a: Node
    b: Node
    site: Site
    second: Subnet

    @classmethod
    def make(
        cls,
        lab: Lab,
        *,
        delay_s: float = DELAY_S,
        before_up: Callable[[TwoUplinks], None] = lambda world: None,
        public_lines: Sequence[str] = (),
        by_name: bool = False,
    ) -> TwoUplinks:
        """before_up: what is to be there before the members' daemons. public_lines: of public nodes' files.
        by_name: the members' files have the public nodes' names, else IPv4 addresses."""
        internet = Internet(lab, publics=2, delay_s=delay_s)
        sites = [internet.site(name, "open", ipv6=True) for name in ("a", "b")]
        a, b = (Node(site.host, site.name) for site in sites)
        second = internet.second_uplink(a.host, "eth1")
        world = cls(internet, PublicNodes(internet), a, b, sites[0], second)
        world.publics.up(*public_lines)
        before_up(world)
        in_parallel(lambda node: node.up(world.file(by_name=by_name)), [a, b])
        world.wait_until_direct()
        return world

    def file(self, *more_lines: str, by_name: bool = False) -> str:
        return members_file(self.publics, (self.a, self.b), *more_lines, by_name=by_name)

    def wait_until_direct(self) -> None:
        ping = TimedPing(self.a.host, "b")
        for one, other in ((self.a, self.b), (self.b, self.a)):
            wait_for_state(one, other, "direct", DIRECT_S)
        ping.stop()

    def gateway(self, version: int, uplink: int) -> str:
        """uplink: 0 or 1."""
        subnet = (self.site.subnets[0], self.second)[uplink]
        return next(gateway for gateway in subnet.gateways() if (":" in gateway) == (version == 6))

    def default_by(self, uplink: int) -> None:
        for version in (4, 6):
            route = ("route", "replace", "default", "via", self.gateway(version, uplink))
            self.a.host.ip(f"-{version}", *route)

    def leave_ipv4(self) -> None:
        """As in a network that has IPv6 alone: addresses and routes of the other go."""
        for device in ("eth0", "eth1"):
            self.a.host.ip("-4", "address", "flush", "dev", device)

    def leave_ipv6(self) -> None:
        for device in ("eth0", "eth1"):
            self.a.host.ip("-6", "address", "flush", "dev", device, "scope", "global")

    def take_ipv6(self) -> None:
        self.a.host.ip("address", "add", f"{self.site.ipv6}/64", "dev", "eth0", "nodad")
        self.a.host.ip("address", "add", self.second.addresses(2)[1], "dev", "eth1", "nodad")
        self.a.host.ip("-6", "route", "replace", "default", "via", self.gateway(6, 0))

    def take_ipv4(self) -> None:
        self.a.host.ip("address", "add", f"{self.site.public_ipv4}/24", "dev", "eth0")
        self.a.host.ip("address", "add", self.second.addresses(2)[0], "dev", "eth1")
        self.a.host.ip("-4", "route", "replace", "default", "via", self.gateway(4, 0))

    @contextmanager
    def second_by_rule(self) -> Iterator[Callable[[], None]]:
        """Yields what makes the ISP swallow all of a's first uplink, and has a rule send by the second what
        has no route but the default; undivert() ends it. All is undone at the end."""
        host = self.a.host
        for version in (4, 6):
            way = ("route", "add", "default", "via", self.gateway(version, 1), "table", "200")
            host.ip(f"-{version}", *way)
            main = ("rule", "add", "pref", "100", "lookup", "main", "suppress_prefixlength", "0")
            host.ip(f"-{version}", *main)
        try:
            yield self._divert
        finally:
            with suppress(LabError):
                self.undivert()
            for version in (4, 6):
                host.ip(f"-{version}", "rule", "del", "pref", "100")
                host.ip(f"-{version}", "route", "flush", "table", "200")

    def _divert(self) -> None:
        addresses = (f"ip {{way}} {self.site.public_ipv4}", f"ip6 {{way}} {self.site.ipv6}")
        drops = [f"{each.format(way=way)} drop" for each in addresses for way in ("saddr", "daddr")]
        hook = "type filter hook forward priority -10"
        table = "\n".join(["table inet swallow {", "chain forward {", hook, *drops, "}", "}", ""])
        self.internet.isp.run(["nft", "-f", "-"], input=table)
        for version in (4, 6):
            self.a.host.ip(f"-{version}", "rule", "add", "pref", "101", "lookup", "200")

    def undivert(self) -> None:
        self.internet.isp.run(["nft", "delete", "table", "inet", "swallow"])
        for version in (4, 6):
            self.a.host.ip(f"-{version}", "rule", "del", "pref", "101")

    def gap_s(self, event: Callable[[], object], *, after_s: float = 1.0) -> float:
        """How long pings both ways were without an answer, the longer; looked at until after_s after the
        event and the next answer."""
        with self.pinging() as pings:
            event()
            time.sleep(after_s)
            for ping in pings:
                ping.wait_for_replies(3, SETTLED_S)
        return max(longest_gap_s(ping.replies()) for ping in pings)

    @contextmanager
    def pinging(self) -> Iterator[list[TimedPing]]:
        pings = [
            TimedPing(one.host, other.name, interval_s=PING_S)
            for one, other in ((self.a, self.b), (self.b, self.a))
        ]
        try:
            for ping in pings:
                ping.wait_for_replies(5)
            yield pings
        finally:
            for ping in pings:
                ping.stop()
