"""What text that others wrote may ask of this host: the one place that decides it.

Four kinds of text become addresses, names, routes, boot lines or work here, each trusted to another degree:
an invitation, the answer to a claim (AUTHED), a member's list of members, and a network file of this host's
own people. Pure functions over facts of the host; each says why not, or None.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from wh.config.model import MAX_WORKBIT, IPNetwork
from wh.trust.reserved_names import why_reserved
from wh.wire.address import Address, ip_of
from wh.wire.public_key import Key


class Source(Enum):
    """Whose text it is."""

    INVITATION = "invitation"  # of whoever sent it: nothing of it is proved
    AUTHED = "authed"  # the answer of the node that an invitation named
    ROSTER = "roster"  # a list of members, by a member
    NETWORK_FILE = "network file"  # of who runs this host, also where `wh join` wrote it: they can read it


class Names(Enum):
    NONE = "none"
    NEW = "new"  # of a plain form, and without a meaning on this host so far
    ANY = "any"  # that a network file can have


class Subnets(NamedTuple):
    """Where a subnet must lie, whole, and the largest that it may be, by IP version."""

    within: tuple[IPNetwork, ...]
    prefix_len_min: dict[int, int]


@dataclass(frozen=True, slots=True)
class Degree:
    """What a source may ask for. subnets: None for any that a network file can have; a Subnets within nothing
    for none at all, only addresses in the subnet that there is. clear_of_host: nothing that this host has or
    uses may be in it. routes: beyond those to the subnet and to each member's address from its key.
    boot_lines: nodes that are asked for as long as the network file says so. loopback: whether datagrams may
    go to programs of this host. workbit_max: of the key that is searched for."""

    subnets: Subnets | None
    clear_of_host: bool
    names: Names
    routes: bool
    boot_lines: int
    loopback: bool
    workbit_max: int


PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
"""RFC 1918 and RFC 6598; with fc00::/7 (RFC 4193), addresses that nobody has on the Internet."""

_OTHERS = Subnets((*PRIVATE, ipaddress.ip_network("fc00::/7")), {4: 16, 6: 48})
_NOWHERE = Subnets((), {})

WORKBIT_MAX = 20
"""About 2 s of search on two cores at 0.65 million keys a second each, and 10 s where luck is bad (1%)."""

INVITED_BOOT_LINES = 4

DEGREES = {
    Source.INVITATION: Degree(_OTHERS, True, Names.NONE, False, INVITED_BOOT_LINES, False, WORKBIT_MAX),
    Source.AUTHED: Degree(_OTHERS, True, Names.NEW, False, 0, False, 0),
    Source.ROSTER: Degree(_NOWHERE, True, Names.NEW, False, 0, False, 0),
    Source.NETWORK_FILE: Degree(None, False, Names.ANY, False, 1 << 20, True, MAX_WORKBIT),
}

_SERVICES: dict[IPNetwork, str] = {
    ipaddress.ip_network(text): whose
    for text, whose in (
        ("100.100.0.0/16", "where clouds and other overlays have services"),  # Alibaba, Tailscale
        ("fd00:ec2::/32", "where Amazon's cloud has services"),
        ("fd20:ce::/32", "where Google's cloud has services"),
        ("fd00:c1::/32", "where Oracle's cloud has services"),
        ("fd7a:115c:a1e0::/48", "another overlay's"),  # Tailscale
    )
}
"""Within the private ranges, what programs reach without being told: metadata, name and time servers."""

DEFAULT_ROUTE_LEN_MAX = 1
"""A route this wide is a default route: VPN programs write two halves of everything."""

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class Holding(Enum):
    """How this host has a part of the address space."""

    ADDRESS = "an address of this host"
    ROUTE = "a route of this host"
    RULE = "a routing rule of this host"
    GATEWAY = "a gateway of this host"
    RESOLVER = "a name server of this host"


class Held(NamedTuple):
    holding: Holding
    network: IPNetwork
    detail: str = ""  # the interface, where it has one


@dataclass(frozen=True, slots=True)
class HostFacts:
    """held: addresses, routes of all tables, and so on. own_names: what the host is called. known_names:
    those of the names in question that resolve already. Names in lower case."""

    held: Sequence[Held] = ()
    own_names: frozenset[str] = frozenset()
    known_names: frozenset[str] = frozenset()


def why_no_subnet(source: Source, subnet: IPNetwork, host: HostFacts) -> str | None:
    """Why this source cannot give this host the subnet, as the end of a sentence about it."""
    degree = DEGREES[source]
    if degree.subnets is None:
        return None
    if not any(_within(subnet, allowed) for allowed in degree.subnets.within):
        return "is not among the private addresses that others may choose"
    if subnet.prefixlen < degree.subnets.prefix_len_min[subnet.version]:
        return f"is larger than a /{degree.subnets.prefix_len_min[subnet.version]}"
    for services, whose in _SERVICES.items():
        if _overlap(subnet, services):
            return f"has {services}, {whose}"
    return _why_not_clear(subnet, host) if degree.clear_of_host else None


def _why_not_clear(subnet: IPNetwork, host: HostFacts) -> str | None:
    for holding, network, detail in host.held:
        plain = unmapped(network)
        if holding is Holding.ROUTE and plain.prefixlen <= DEFAULT_ROUTE_LEN_MAX:
            continue
        if _overlap(subnet, plain):
            what = str(plain.network_address if plain.prefixlen == plain.max_prefixlen else plain)
            return f"overlaps {what}, {holding.value}" + (f" ({detail})" if detail else "")
    return None


def why_no_name(source: Source, name: str, host: HostFacts) -> str | None:
    """Why this source cannot give this host a name, as the end of a sentence about it."""
    degree = DEGREES[source]
    if degree.names is Names.ANY:
        return None
    if degree.names is Names.NONE:
        return "comes from who names nobody"
    lower = name.lower()
    if reason := why_reserved(lower):
        return reason
    if lower in host.own_names:
        return "is this machine's own name"
    return "means something on this machine already" if lower in host.known_names else None


def why_no_work(source: Source, workbit: int) -> str | None:
    """Why this source cannot ask for a key with so many workbits."""
    most = DEGREES[source].workbit_max
    return None if workbit <= most else f"asks for {workbit} workbits; others may ask for {most} at most"


def boot_lines(source: Source, contacts: Iterable[tuple[Key, Address]]) -> list[tuple[Key, Address]]:
    """Those that this source may have written into the network file: one a key, the first."""
    return reachable(source, contacts)[: DEGREES[source].boot_lines]


def reachable(source: Source, contacts: Iterable[tuple[Key, Address]]) -> list[tuple[Key, Address]]:
    """Those that this source may have this host send to: one a key, the first."""
    known: dict[Key, Address] = {}
    for key, address in contacts:
        if DEGREES[source].loopback or not ip_of(address).is_loopback:
            known.setdefault(key, address)
    return list(known.items())


def unmapped(network: IPNetwork) -> IPNetwork:
    """IPv4 addresses that are written as IPv6 ones (RFC 4291, 2.5.5.2) are IPv4 addresses."""
    if not isinstance(network, ipaddress.IPv6Network) or not network.subnet_of(_MAPPED):
        return network
    return ipaddress.IPv4Network((network.network_address.packed[12:], network.prefixlen - 96))


def _within(subnet: IPNetwork, allowed: IPNetwork) -> bool:
    if isinstance(subnet, ipaddress.IPv4Network) and isinstance(allowed, ipaddress.IPv4Network):
        return subnet.subnet_of(allowed)
    if isinstance(subnet, ipaddress.IPv6Network) and isinstance(allowed, ipaddress.IPv6Network):
        return subnet.subnet_of(allowed)
    return False


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return _within(one, other) or _within(other, one)
