"""What a network file asks of a member's host: addresses, routes, data-plane peers, names. Values only."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from wh.config.model import IPAddress, IPNetwork, Network, Peer
from wh.engine.events import Key
from wh.naming.table import NameEntry, NameTable
from wh.net.links.interface import Wanted
from wh.net.links.rtnetlink import METRIC, InterfaceAddress, Route
from whcore.keys import encode_key, orchid

MTU = 1408
"""Of the overlay: 1,496 bytes outside over IPv6 and a relay (docs/design.md section 4)."""

COVER_METRIC = 1_000_000
"""Of the route to the whole subnet: it only keeps what is for no member from going elsewhere, and gives way
to every other."""

INTERFACE_PREFIX = "wh-"
INTERFACE_KEY_CHARS = 8


@dataclass(frozen=True, slots=True)
class OverlayPlan:
    """link: of the interface. allowed_ips: by data-plane peer, the addresses that it may use. names: what the
    hosts file shall tell."""

    link: Wanted
    allowed_ips: Mapping[Key, frozenset[IPNetwork]]
    names: tuple[NameEntry, ...]


def default_interface(key: Key) -> str:
    """`wh-` and the first 8 characters of the key."""
    return INTERFACE_PREFIX + encode_key(key)[:INTERFACE_KEY_CHARS]


def own_address(network: Network, own_key: Key) -> InterfaceAddress | None:
    """Our address in the subnet; None where the file does not trust our key."""
    own = network.peer(own_key)
    if own is None or own.ip is None or network.subnet is None:
        return None
    return InterfaceAddress(own.ip, network.subnet.prefixlen)


def plan_overlay(network: Network, own_key: Key, without_ipv6: frozenset[Key] = frozenset()) -> OverlayPlan:
    """Aliases have no part in it before somebody has claimed them. Every member has a route of its own, which
    names the address that packets to it leave with: nothing else does. without_ipv6: members whose names
    lead to IPv4 alone."""
    namespace = network.namespace.encode()
    members = [peer for peer in network.peers if peer.trusted and not peer.is_alias]
    others = [peer for peer in members if peer.key != own_key]
    own_orchid = InterfaceAddress(ipaddress.IPv6Address(orchid(own_key, namespace)), 128)
    subnet_address = own_address(network, own_key)
    addresses = {own_orchid} if subnet_address is None else {own_orchid, subnet_address}
    orchids = {peer.key: ipaddress.IPv6Network((orchid(peer.key, namespace), 128)) for peer in others}
    routes = {_route(to, own_orchid.ip) for to in orchids.values()}
    cover = None
    if subnet_address is not None:
        routes |= {_route(to, subnet_address.ip) for peer in others for to in _host_route(peer)}
        cover = Route(subnet_address.subnet, subnet_address.ip, COVER_METRIC)
    member_keys = {peer.key for peer in members}
    return OverlayPlan(
        link=Wanted(MTU, frozenset(addresses), frozenset(routes), cover),
        allowed_ips={peer.key: frozenset(_host_route(peer) | {orchids[peer.key]}) for peer in others},
        names=tuple(
            entry.without_ipv6() if entry.key in without_ipv6 else entry
            for entry in NameTable(network)
            if entry.key in member_keys and entry.hostname
        ),
    )


def _route(to: IPNetwork, source: IPAddress) -> Route:
    return Route(to, source, METRIC[to.version])


def _host_route(peer: Peer) -> set[IPNetwork]:
    return set() if peer.ip is None else {ipaddress.ip_network(peer.ip)}
