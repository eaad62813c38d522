"""A small internet: an ISP that routes between networks in different /16, public hosts, sites behind NATs.

public1 192.0.2.2 ────┐         ┌──── 100.4.1.2 router ──── 192.168.1.2 host of a site
public2 198.51.100.2 ─┼── isp ──┤
public3 203.0.113.2 ──┘         └──── 100.5.1.2 router ── 100.64.1.2 router ──── 192.168.1.2 of a nested one

Each attachment has networks of its own, IPv4 and IPv6, and in an internet with delays a wire (wires.py) of
its own. Public hosts have both families, sites IPv4 unless something else is asked for. Names of
public hosts resolve everywhere.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

from labnet import Host, Lab, Router, join_devices
from miniupnpd import PortMapper, start_miniupnpd
from nat_rules import NAT_RULESETS
from wires import End, Wire, Wires

DOCUMENTATION_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")
"""RFC 5737; of the first public hosts. For miniupnpd they are reserved, so nothing with a router has them."""
ATTACHMENTS_MAX = 63  # 100.64.0.0/10 is private again
CARRIER_NETWORK = "100.64.1"  # RFC 6598: between a carrier's NAT and its customer's
HOME_NETWORKS = ("192.168.1", "192.168.2")
GATEWAY = 1
"""Last part of the address of a network's upper router."""
POOL = range(2, 6)
"""Last parts of the addresses of a NAT with several."""

PORT_MAPPERS = {"upnp": PortMapper.UPNP_IGD, "nat-pmp": PortMapper.NAT_PMP_AND_PCP}

NATS_OF_SITE: dict[str, tuple[str, ...]] = {
    **{kind: (kind,) for kind in NAT_RULESETS if kind not in ("none", "firewall", "random-port-mapping")},
    "open": (),
    "nested": ("port-restricted", "port-restricted"),
    "ipv6-only": ("firewall",),
    **dict.fromkeys(PORT_MAPPERS, ("random-port-mapping",)),
}
"""Kind of a site -> kinds of its routers, the outermost first. A NAT that maps ports when asked has no mercy
otherwise: what reaches a host behind it came through a mapping."""


@dataclass(frozen=True)
class Subnet:
    """An IPv4 /24, an IPv6 /64, or both, by what their addresses begin with."""

    ipv4: str | None
    ipv6: str | None

    def addresses(self, *hosts: int) -> list[str]:
        """With prefix lengths. More than one host: one machine's IPv4 addresses; of IPv6 it has the first."""
        ipv4 = [f"{self.ipv4}.{host}/24" for host in hosts if self.ipv4]
        return ipv4 + ([f"{self.ipv6}::{hosts[0]}/64"] if self.ipv6 else [])

    def gateways(self) -> list[str]:
        return [address.split("/")[0] for address in self.addresses(GATEWAY)]


@dataclass
class Site:
    """A host and what stands between it and the ISP."""

    name: str
    kind: str
    host: Host
    routers: list[Router]  # the outermost first; none where the host is public itself
    subnets: list[Subnet]  # from the ISP's to the host's
    wire: Wire | None = None  # to the ISP, in an internet with delays; its lane 0 goes there
    miniupnpd: subprocess.Popen[str] | None = None
    neighbours: list[Host] = field(default_factory=list)

    @property
    def edge(self) -> Host:
        """What is plugged into the ISP."""
        return self.routers[0] if self.routers else self.host

    @property
    def public_ipv4(self) -> str:
        """The first; "" where there is none."""
        return f"{self.subnets[0].ipv4}.{POOL[0]}" if self.subnets[0].ipv4 else ""

    @property
    def ipv6(self) -> str:
        """The host's; "" where there is none."""
        return f"{self.subnets[-1].ipv6}::{POOL[0]}" if self.subnets[-1].ipv6 else ""

    def name_on(self, host: Host) -> None:
        """The name of this site's host resolves there to its addresses."""
        with host.hosts_file.open("a") as lines:
            lines.writelines(
                f"{address} {self.name}\n" for address in (self.public_ipv4, self.ipv6) if address
            )

    def neighbour(self, name: str, *, same_lan: bool) -> Host:
        """One more host behind the same NAT, on the same network or on one beside it; IPv4 only."""
        host = self.routers[-1].lab.host(name)
        self._take_in(host, same_lan=same_lan)
        return host

    def visit(self, host: Host) -> None:
        """Another site's host moves in here, on the network of this one's."""
        host.ip("link", "delete", "eth0")
        self._take_in(host, same_lan=True)

    def _take_in(self, host: Host, *, same_lan: bool) -> None:
        router = self.routers[-1]
        home = HOME_NETWORKS[0 if same_lan else 1]
        lan = "lan" if same_lan else "lan2"
        if not same_lan:
            _make_lan(router, lan)
            router.assign(lan, f"{home}.{GATEWAY}/24")
        _plug_into_lan(router, lan, host, "eth0")
        self.neighbours.append(host)
        host.assign("eth0", f"{home}.{POOL[0] + len(self.neighbours)}/24")
        host.default_route(f"{home}.{GATEWAY}")


class Internet:
    def __init__(self, lab: Lab, publics: int = 3, *, delay_s: float = 0.0, seed: int = 0) -> None:
        """publics: hosts public1 and so on. delay_s: of each wire to the ISP, one way; 0: plain cables."""
        self.lab = lab
        self.isp = lab.router("isp")
        self._delay_s = delay_s
        self._wires = Wires(lab, seed) if delay_s else None
        self._attachments = 0
        self.sites: list[Site] = []
        self.publics: list[Site] = []
        for number in range(1, publics + 1):
            self.publics.append(self.site(f"public{number}", "open", ipv6=True))

    def site(self, name: str, kind: str, *, ipv6: bool = False) -> Site:
        """A host of this name behind NATs of that kind. ipv6: it has that too, through a stateful filter."""
        if kind not in NATS_OF_SITE:
            raise ValueError(f"no kind of site {kind!r}; there are {', '.join(NATS_OF_SITE)}")
        nats = NATS_OF_SITE[kind]
        routers = [self.lab.router(f"{name}-nat{level}", nat) for level, nat in enumerate(nats, 1)]
        host = self.lab.host(name)
        only_ipv6 = kind == "ipv6-only"
        subnets = self._new_subnets(len(routers) + 1, ipv4=not only_ipv6, ipv6=ipv6 or only_ipv6)
        site = Site(name, kind, host, routers, subnets)
        self.sites.append(site)
        self._plug_in(site)
        _plug_together(routers, host, subnets)
        _route_inwards([self.isp, *routers], subnets)
        for known in self.publics:
            known.name_on(host)
        if kind in PORT_MAPPERS:
            site.miniupnpd = start_miniupnpd(routers[0], PORT_MAPPERS[kind])
        return site

    def _new_subnets(self, count: int, *, ipv4: bool, ipv6: bool) -> list[Subnet]:
        """From the ISP's to a host's."""
        self._attachments += 1
        number = self._attachments
        if number > ATTACHMENTS_MAX:
            raise ValueError(f"an internet has at most {ATTACHMENTS_MAX} attachments")
        documentation = count == 1 and number <= len(DOCUMENTATION_NETWORKS)
        public = DOCUMENTATION_NETWORKS[number - 1] if documentation else f"100.{number}.1"
        prefixes = [public, *[CARRIER_NETWORK] * (count - 2), *HOME_NETWORKS[:1]][:count]
        return [
            Subnet(prefix if ipv4 else None, f"2001:db8:{number:x}:{level}" if ipv6 else None)
            for level, prefix in enumerate(prefixes)
        ]

    def second_uplink(self, host: Host, device: str) -> Subnet:
        """One more network of both families between a host and the ISP; nothing is routed there yet."""
        (subnet,) = self._new_subnets(1, ipv4=True, ipv6=True)
        self._connect(host, device, subnet)
        host.assign(device, *subnet.addresses(POOL[0]))
        return subnet

    def _plug_in(self, site: Site) -> None:
        """The site's edge, with its public addresses, and the ISP's device for it."""
        edge, device, subnet = site.edge, Router.OUTSIDE if site.routers else "eth0", site.subnets[0]
        site.wire = self._connect(edge, device, subnet)
        _live_on(edge, device, subnet, POOL if site.kind == "random-pool" else POOL[:1])

    def _connect(self, host: Host, device: str, subnet: Subnet) -> Wire | None:
        """A new device of the host, and the ISP's for it; of these the latter has its address."""
        port, wire = f"port{self._attachments}", None
        if self._wires:
            wire = self._wires.connect(End(host, device), End(self.isp, port), delay_s=self._delay_s)
        else:
            join_devices(host, device, self.isp, port)
        self.isp.assign(port, *subnet.addresses(GATEWAY))
        return wire


def _plug_together(routers: Sequence[Router], host: Host, subnets: Sequence[Subnet]) -> None:
    """Below the ISP: each router's inner network with what is next."""
    below: list[tuple[Host, str]] = [(router, Router.OUTSIDE) for router in routers[1:]]
    if routers:
        below.append((host, "eth0"))
    for router, (machine, device), subnet in zip(routers, below, subnets[1:], strict=True):
        _make_lan(router, "lan")
        router.assign("lan", *subnet.addresses(GATEWAY))
        _plug_into_lan(router, "lan", machine, device)
        _live_on(machine, device, subnet, POOL[:1])


def _live_on(machine: Host, device: str, subnet: Subnet, hosts: Sequence[int]) -> None:
    machine.assign(device, *subnet.addresses(*hosts))
    for gateway in subnet.gateways():
        machine.default_route(gateway)


def _route_inwards(routers: Sequence[Router], subnets: Sequence[Subnet]) -> None:
    """IPv6 is not translated: each router must know that the site's networks are behind the next one."""
    for router, subnet in zip(routers[:-1], subnets[:-1], strict=True):
        if subnet.ipv6:
            site_prefix = subnet.ipv6.rpartition(":")[0]
            router.route(f"{site_prefix}::/48", f"{subnet.ipv6}::{POOL[0]}")


def _make_lan(router: Router, lan: str) -> None:
    """A bridge, as the switch in a home router."""
    router.ip("link", "add", lan, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
    router.ip("link", "set", lan, "up")


def _plug_into_lan(router: Router, lan: str, machine: Host, device: str) -> None:
    port = f"{lan}-{machine.name}"[:15]
    join_devices(machine, device, router, port)
    router.ip("link", "set", port, "master", lan)
