"""Giving a link the addresses and routes it should have: all of them, or none; later, what others took."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from wh.config.model import IPAddress, IPNetwork
from wh.errors import Code, SystemSetupError
from wh.net.links.overlaps import find_overlap
from wh.net.links.rtnetlink import ForeignRoute, InterfaceAddress, Link, LinkAddress, Route, RtnetlinkError

_logger = logging.getLogger(__name__)

Warnings = tuple[SystemSetupError, ...]

_NAMED_MAX = 3


class Kernel(Protocol):
    """What of NetlinkSocket is needed here."""

    def links(self) -> list[Link]: ...
    def set_link(self, ifindex: int, *, up: bool, mtu: int) -> None: ...
    def addresses(self) -> list[LinkAddress]: ...
    def add_address(self, ifindex: int, address: InterfaceAddress) -> None: ...
    def delete_address(self, ifindex: int, address: InterfaceAddress) -> None: ...
    def our_routes(self, ifindex: int) -> list[Route]: ...
    def add_route(self, ifindex: int, route: Route) -> None: ...
    def delete_route(self, ifindex: int, route: Route) -> None: ...
    def outgoing_link(self, destination: IPAddress) -> int | None: ...
    def other_routes(self, version: int, ifindex: int) -> list[ForeignRoute]: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a link should have, besides link-local addresses and the routes that others made. cover: to the
    whole subnet, whose members are among the routes; where the host is in the same subnet elsewhere, it and
    routes to the host's own gateways are not wanted."""

    mtu: int
    addresses: frozenset[InterfaceAddress]
    routes: frozenset[Route]
    cover: Route | None = None

    def here(self, kernel: Kernel, ifindex: int) -> tuple[Wanted, Warnings]:
        """The same for the networks that the host is in now."""
        if self.cover is None:
            return self, ()
        subnet = self.cover.destination
        overlap = find_overlap(kernel, ifindex, subnet)
        taken = {route for route in self.routes if route.destination.network_address in overlap.gateways}
        cover = frozenset() if overlap.networks or overlap.gateways else frozenset({self.cover})
        members = (route.destination.network_address for route in self.routes)
        here = Wanted(self.mtu, self.addresses, self.routes - taken | cover)
        return here, overlap.warnings(subnet, members)


class Restored(NamedTuple):
    """name: of the link, at present. lost: what it had no more, and has again. routes: those that it should
    have here. ipv6: whether it can have its IPv6 addresses."""

    name: str
    lost: tuple[str, ...] = ()
    warnings: Warnings = ()
    routes: frozenset[Route] = frozenset()
    ipv6: bool = True


def find_link(kernel: Kernel, name: str) -> Link:
    """Raises SystemSetupError."""
    link = next((link for link in kernel.links() if link.name == name), None)
    if link is None:
        raise SystemSetupError(f"there is no interface {name}", code=Code.NETWORK_SETUP)
    return link


def bring_up(kernel: Kernel, link: Link, wanted: Wanted) -> Warnings:
    """Raises SystemSetupError; the link is as before then."""
    with ExitStack() as undo:
        undo.callback(_undo_step, kernel.set_link, link.ifindex, up=link.up, mtu=link.mtu)
        kernel.set_link(link.ifindex, up=True, mtu=wanted.mtu)
        here, overlaps = wanted.here(kernel, link.ifindex)
        warnings = _Change(kernel, link, undo).apply(here)
        undo.pop_all()
    return (*warnings, *overlaps)


def update(kernel: Kernel, link: Link, wanted: Wanted) -> Warnings:
    """Raises SystemSetupError; the link is as before then."""
    here, overlaps = wanted.here(kernel, link.ifindex)
    with ExitStack() as undo:
        warnings = _Change(kernel, link, undo).apply(here)
        undo.pop_all()
    return (*warnings, *overlaps)


def restore(kernel: Kernel, link: Link, wanted: Wanted, before: Restored | None = None) -> Restored:
    """Give a link what it should have and has not. What others added stays. before: of the last look, None:
    there was none; what could not be there then, or was not wanted, is not lost when it is missing. Raises
    SystemSetupError where the kernel refuses; some of it may be done then."""
    lost = [] if link.up else ["that it is up"]
    if link.mtu != wanted.mtu:
        lost.append(f"the MTU {wanted.mtu}")
    if lost:
        kernel.set_link(link.ifindex, up=True, mtu=wanted.mtu)
    here, overlaps = wanted.here(kernel, link.ifindex)
    change = _Change(kernel, link, ExitStack())
    warnings = change.apply(here, others_stay=True)
    routes = [route for route in change.added_routes if before is None or route in before.routes]
    new = 6 if before is not None and not before.ipv6 else 0
    lost += [f"the address {address}" for address in change.added if address.ip.version != new]
    lost += [f"the route to {route}" for route in routes if route.destination.version != new]
    return Restored(link.name, tuple(lost), (*warnings, *overlaps), here.routes, change.ipv6)


def local_addresses(kernel: Kernel, exclude: int | None) -> list[IPAddress]:
    """What other hosts can know us by: the addresses of all links that are up, except one's (its ifindex);
    without loopback, link-local IPv6, and those that duplicate address detection has not passed (yet)."""
    up = {link.ifindex for link in kernel.links() if link.up and link.ifindex != exclude}
    return [
        entry.address.ip
        for entry in kernel.addresses()
        if entry.ifindex in up and entry.usable and not _is_of_this_host_only(entry.address.ip)
    ]


def _is_of_this_host_only(ip: IPAddress) -> bool:
    return ip.is_loopback or (ip.version == 6 and ip.is_link_local)


class _Change:
    """One change of a link; what was done can be taken back with the undo stack."""

    def __init__(self, kernel: Kernel, link: Link, undo: ExitStack) -> None:
        self._kernel = kernel
        self._link = link
        self._undo = undo
        self.added: list[InterfaceAddress] = []
        self.added_routes: list[Route] = []
        self.ipv6 = True  # no IPv6 address was refused
        self._without_ipv6: list[str] = []  # what could not be had for lack of IPv6
        self._rivals: dict[str, SystemSetupError] = {}

    def apply(self, wanted: Wanted, *, others_stay: bool = False) -> Warnings:
        """others_stay: addresses that are none of ours are no mistake.

        Removes first: of two IPv4 addresses in one subnet the second goes with the first, which is also
        why the addresses are read again before the missing ones are added. A route goes with the address
        that it names, so the routes are read after that, and undone last."""
        self._undo.callback(_undo_step, self._restore_routes, self._routes())
        for address, reserved in sorted(self._addresses().items(), key=str):
            if not reserved if address in wanted.addresses else not others_stay:
                self._remove_address(address)
        for address in sorted(wanted.addresses - self._addresses().keys(), key=str):
            self._add_address(address)
        routes = self._routes()
        for route in sorted(routes - wanted.routes, key=str):
            self._remove_route(route)
        for route in sorted(wanted.routes - routes, key=str):
            self._add_route(route)
        return (*self._ipv6_warning(), *self._rivals.values())

    def _routes(self) -> set[Route]:
        return set(self._kernel.our_routes(self._link.ifindex))

    def _restore_routes(self, before: set[Route]) -> None:
        now = self._routes()
        for route in now - before:
            _undo_step(self._kernel.delete_route, self._link.ifindex, route)
        for route in before - now:
            _undo_step(self._kernel.add_route, self._link.ifindex, route)

    def _addresses(self) -> dict[InterfaceAddress, bool]:
        """Whether each is reserved. Without what the kernel itself gives an IPv6 link."""
        return {
            entry.address: entry.reserved
            for entry in self._kernel.addresses()
            if entry.ifindex == self._link.ifindex
            and not (entry.address.ip.version == 6 and entry.address.ip.is_link_local)
        }

    # Steps

    def _add_address(self, address: InterfaceAddress) -> None:
        try:
            self._kernel.add_address(self._link.ifindex, address)
        except RtnetlinkError as error:
            if error.error_number != errno.EEXIST:
                self._tolerate_missing_ipv6(error, address.ip.version, str(address))
                self.ipv6 = False
            return
        self.added.append(address)
        self._undo.callback(_undo_step, self._kernel.delete_address, self._link.ifindex, address)

    def _remove_address(self, address: InterfaceAddress) -> None:
        try:
            self._kernel.delete_address(self._link.ifindex, address)
        except RtnetlinkError as error:
            if error.error_number != errno.EADDRNOTAVAIL:
                raise
        self._undo.callback(_undo_step, self._kernel.add_address, self._link.ifindex, address)

    def _add_route(self, route: Route) -> None:
        """One that another link has already stays there."""
        if self._without_ipv6 and route.destination.version == 6:
            self._without_ipv6.append(str(route))
            return
        try:
            self._kernel.add_route(self._link.ifindex, route)
            self.added_routes.append(route)
        except RtnetlinkError as error:
            if error.error_number != errno.EEXIST:
                self._tolerate_missing_ipv6(error, route.destination.version, str(route))
            elif rival := self._rival_of(route.destination):
                self._rivals.setdefault(str(rival), rival)

    def _remove_route(self, route: Route) -> None:
        try:
            self._kernel.delete_route(self._link.ifindex, route)
        except RtnetlinkError as error:
            if error.error_number != errno.ESRCH:
                raise

    # Warnings

    def _tolerate_missing_ipv6(self, error: RtnetlinkError, version: int, what: str) -> None:
        """A system without IPv6 says so with many errors (EACCES, EOPNOTSUPP, EINVAL, ENODEV ...)."""
        if version == 4 or error.error_number == errno.EPERM:
            raise error
        self._without_ipv6.append(what)

    def _ipv6_warning(self) -> Warnings:
        if not self._without_ipv6:
            return ()
        return (
            SystemSetupError(
                f"no IPv6 on {self._link.name}: without {some(self._without_ipv6)}",
                code=Code.NO_IPV6,
                hint="allow it with: sysctl -w net.ipv6.conf.default.disable_ipv6=0 "
                f"net.ipv6.conf.{self._link.name.replace('.', '/')}.disable_ipv6=0",
            ),
        )

    def _rival_of(self, destination: IPNetwork) -> SystemSetupError | None:
        """What is wrong where packets to a network of ours leave by another link."""
        ours = {entry.address.ip for entry in self._kernel.addresses()}
        offsets = range(min(3, destination.num_addresses))
        probes = (destination.network_address + offset for offset in reversed(offsets))
        probe = next((ip for ip in probes if ip not in ours), None)
        if probe is None:
            return None
        ifindex = self._kernel.outgoing_link(probe)
        if ifindex is None or ifindex == self._link.ifindex:
            return None
        names = {link.ifindex: link.name for link in self._kernel.links()}
        rival = names.get(ifindex, f"interface {ifindex}")
        return SystemSetupError(
            f"{rival} already has a route to {destination}",
            code=Code.ROUTE_TAKEN,
            hint=_rival_hint(destination, rival),
        )


def some(things: Sequence[str]) -> str:
    """Of many, the first few and how many more."""
    named = ", ".join(things[:_NAMED_MAX])
    return named if len(things) <= _NAMED_MAX else f"{named} and {len(things) - _NAMED_MAX} more"


def _rival_hint(destination: IPNetwork, rival: str) -> str:
    if destination.num_addresses == 1:
        return (
            f"it is a member's of both networks, reached by {rival} alone; to reach it in both, start one of "
            "them with the word isolated, and use that by wh run or wh socks"
        )
    return (
        f"where {rival} is on the same network, take it down first; else choose another subnet, remove that "
        "route, or start this one with the word isolated"
    )


def _undo_step(step: Callable[..., None], *arguments: object, **keywords: object) -> None:
    """The first error is the one to report, and the link is given up anyway: this one is only logged."""
    try:
        step(*arguments, **keywords)
    except SystemSetupError as error:
        _logger.warning("while undoing a change: %s", error)
