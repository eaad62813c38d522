"""Where the host is in a network that shares addresses with the overlay's subnet, as in a LAN that chose the
same: what it needs there comes first, and only members' own addresses lead into the overlay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from wh.config.model import IPAddress, IPNetwork
from wh.errors import Code, SystemSetupError
from wh.net.links.rtnetlink import ForeignRoute, Link, LinkAddress


class Kernel(Protocol):
    """What of NetlinkSocket is needed here."""

    def links(self) -> list[Link]: ...
    def addresses(self) -> list[LinkAddress]: ...
    def other_routes(self, version: int, ifindex: int) -> list[ForeignRoute]: ...


class Overlap(NamedTuple):
    """networks: by the name of their link. gateways: of this host, in the subnet."""

    networks: dict[str, IPNetwork]
    gateways: frozenset[IPAddress]

    def warnings(self, subnet: IPNetwork, members: Iterable[IPAddress]) -> tuple[SystemSetupError, ...]:
        return (
            *(_warning(link, network, subnet) for link, network in sorted(self.networks.items())),
            *(_gateway_warning(gateway) for gateway in sorted(self.gateways & set(members), key=str)),
        )


def find_overlap(kernel: Kernel, ifindex: int, subnet: IPNetwork) -> Overlap:
    """ifindex: of the overlay's own link. A wide route that the subnet is a part of, such as a default route,
    is none: a network that the host is in counts, and what is routed more narrowly."""
    links = {link.ifindex: link.name for link in kernel.links() if link.up and link.ifindex != ifindex}
    networks: dict[str, IPNetwork] = {}
    for entry in kernel.addresses():
        connected = entry.address.subnet
        if entry.ifindex in links and connected.num_addresses > 1 and _share(connected, subnet):
            networks.setdefault(links[entry.ifindex], connected)
    gateways = set()
    for route in kernel.other_routes(subnet.version, ifindex):
        if route.gateway is not None and route.gateway in subnet:
            gateways.add(route.gateway)
        narrow = route.destination.prefixlen >= subnet.prefixlen and _share(route.destination, subnet)
        if narrow and route.ifindex in links:
            networks.setdefault(links[route.ifindex], route.destination)
    return Overlap(networks, frozenset(gateways))


def _share(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _warning(link: str, network: IPNetwork, subnet: IPNetwork) -> SystemSetupError:
    return SystemSetupError(
        f"{link} leads to {network}, and the overlay's subnet is {subnet}: members' addresses lead into the "
        f"overlay, all others to {link}",
        code=Code.ROUTE_TAKEN,
        hint="leave that network, or choose a subnet that no member's networks have",
    )


def _gateway_warning(gateway: IPAddress) -> SystemSetupError:
    return SystemSetupError(
        f"{gateway} is a gateway of this host, and a member's address: the member is not reached by it",
        code=Code.ROUTE_TAKEN,
        hint="reach it by its IPv6 address from its key, or choose another subnet",
    )
