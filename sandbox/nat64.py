"""A network of IPv6 alone, with NAT64 and DNS64 (RFC 6146, RFC 6147), among nodes that have IPv4 alone."""

from __future__ import annotations

import ipaddress
import time

from labnet import Lab
from nodes import wait_for_state
from two_uplinks import TwoUplinks
from unpacked import unpacked

PREFIX = "2001:db8:64::"
POOL = "100.64.99"
"""IPv4 addresses that the translator gives to those behind it."""

CONFIGURATION = f"""tun-device nat64
ipv4-addr {POOL}.1
ipv6-addr 2001:db8:6464::1
prefix {PREFIX}/96
dynamic-pool {POOL}.0/24
data-dir {{directory}}
"""


class Nat64:
    """a has both families, b and the public nodes IPv4 alone; their names are in a's hosts file."""

    def __init__(self, lab: Lab) -> None:
        """Raises LabError where tayga cannot be had."""
        tayga = unpacked(lab.directory, "tayga") / "usr" / "sbin" / "tayga"
        self.net = TwoUplinks.make(lab, before_up=self._without_ipv6, by_name=True)
        isp = self.net.internet.isp
        (isp.directory / "tayga.conf").write_text(CONFIGURATION.format(directory=isp.directory))
        isp.run([tayga, "-c", "tayga.conf", "--mktun"])
        isp.ip("link", "set", "nat64", "up")
        isp.ip("route", "add", f"{POOL}.0/24", "dev", "nat64")
        isp.ip("-6", "route", "add", f"{PREFIX}/96", "dev", "nat64")
        isp.popen([tayga, "-c", "tayga.conf", "-d"])

    @staticmethod
    def _without_ipv6(net: TwoUplinks) -> None:
        for host in (net.b.host, *(site.host for site in net.internet.publics)):
            host.ip("-6", "address", "flush", "dev", "eth0", "scope", "global")
        for site in net.internet.publics:
            Nat64._name(net, site.name, site.public_ipv4)

    @staticmethod
    def _name(net: TwoUplinks, name: str, address: str) -> None:
        """Whatever the resolver says of it from now on."""
        for host in (net.a.host, net.b.host):
            if host is net.b.host and ":" in address:
                continue
            lines = [
                line
                for line in host.hosts_file.read_text().splitlines(keepends=True)
                if line.split()[1:2] != [name] or "wirehub" in line
            ]
            host.hosts_file.write_text("".join([f"{address}\t{name}\n", *lines]))

    def enter_s(self, *, rest_s: float = 1.0) -> float:
        """How long pings were without an answer when a moved from IPv4 alone into the network. rest_s: for so
        long nothing has changed before."""
        net = self.net

        def move() -> None:
            for site in net.internet.publics:
                self._name(net, site.name, embedded(site.public_ipv4))
            net.take_ipv6()
            net.leave_ipv4()

        net.leave_ipv6()
        wait_for_state(net.a, net.b, "direct", 40)
        time.sleep(rest_s)
        return net.gap_s(move)

    def leave_s(self) -> float:
        def move() -> None:
            for site in self.net.internet.publics:
                self._name(self.net, site.name, site.public_ipv4)
            self.net.take_ipv4()
            self.net.leave_ipv6()

        gap_s = self.net.gap_s(move)
        self.net.wait_until_direct()
        self.net.take_ipv6()
        return gap_s


def embedded(ipv4: str) -> str:
    """The IPv6 address that stands for it behind the translator (RFC 6052, 2.2)."""
    return str(ipaddress.IPv6Address(PREFIX) + int(ipaddress.IPv4Address(ipv4)))
