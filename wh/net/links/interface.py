"""Giving a link the addresses and routes it should have: all of them, or none."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from wh.config.model import IPAddress, IPNetwork
from wh.errors import Code, SystemSetupError
from wh.net.links.rtnetlink import InterfaceAddress, Link, LinkAddress, RtnetlinkError

_logger = logging.getLogger(__name__)

Warnings = tuple[SystemSetupError, ...]


class Kernel(Protocol):
    """What of Rtnetlink is needed here."""

    def links(self) -> list[Link]: ...
    def link(self, name: str) -> Link | None: ...
    def delete_link(self, ifindex: int) -> None: ...
    def set_link(self, ifindex: int, *, up: bool, mtu: int) -> None: ...
    def addresses(self) -> list[LinkAddress]: ...
    def add_address(self, ifindex: int, address: InterfaceAddress) -> None: ...
    def delete_address(self, ifindex: int, address: InterfaceAddress) -> None: ...
    def our_routes(self, ifindex: int) -> list[IPNetwork]: ...
    def add_route(self, ifindex: int, destination: IPNetwork) -> None: ...
    def delete_route(self, ifindex: int, destination: IPNetwork) -> None: ...
    def outgoing_link(self, destination: IPAddress) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a link should have, besides link-local addresses and the routes that others made."""

    addresses: frozenset[InterfaceAddress]
    routes: frozenset[IPNetwork]


def bring_up(kernel: Kernel, name: str, mtu: int, wanted: Wanted) -> Warnings:
    """Raises SystemSetupError; the link is as before then."""
    link = _require(kernel, name)
    with ExitStack() as undo:
        undo.callback(_undo_step, kernel.set_link, link.ifindex, up=link.up, mtu=link.mtu)
        kernel.set_link(link.ifindex, up=True, mtu=mtu)
        warnings = _Change(kernel, link, undo).apply(wanted)
        undo.pop_all()
    return warnings


def update(kernel: Kernel, name: str, wanted: Wanted) -> Warnings:
    """Raises SystemSetupError; the link is as before then."""
    link = _require(kernel, name)
    with ExitStack() as undo:
        warnings = _Change(kernel, link, undo).apply(wanted)
        undo.pop_all()
    return warnings


def delete(kernel: Kernel, name: str) -> None:
    """That there is no such link is no error."""
    link = kernel.link(name)
    if link is None:
        return
    try:
        kernel.delete_link(link.ifindex)
    except RtnetlinkError as error:
        if error.error_number != errno.ENODEV:
            raise


def local_addresses(kernel: Kernel, exclude: str | None) -> list[IPAddress]:
    """Usable addresses of the links that are up, except one's; neither loopback nor link-local IPv6."""
    up = {link.ifindex for link in kernel.links() if link.up and link.name != exclude}
    return [
        entry.address.ip
        for entry in kernel.addresses()
        if entry.ifindex in up and entry.usable and not _is_of_this_host_only(entry.address.ip)
    ]


def _is_of_this_host_only(ip: IPAddress) -> bool:
    return ip.is_loopback or (ip.version == 6 and ip.is_link_local)


def _require(kernel: Kernel, name: str) -> Link:
    link = kernel.link(name)
    if link is None:
        raise SystemSetupError(f"there is no interface {name}", code=Code.NETWORK_SETUP)
    return link


class _Change:
    """One change of a link; what was done can be taken back with the undo stack."""

    def __init__(self, kernel: Kernel, link: Link, undo: ExitStack) -> None:
        self._kernel = kernel
        self._link = link
        self._undo = undo
        self._without_ipv6: list[str] = []  # what could not be had for lack of IPv6

    def apply(self, wanted: Wanted) -> Warnings:
        """Removes first: of two IPv4 addresses in one subnet the second goes with the first, which is also
        why the addresses are read again before the missing ones are added. All IPv4 routes go with the last
        IPv4 address, so the routes are read after that, and undone last."""
        self._undo.callback(_undo_step, self._restore_routes, self._routes())
        for address in sorted(self._addresses() - wanted.addresses, key=str):
            self._remove_address(address)
        missing = sorted(wanted.addresses - self._addresses(), key=str)
        for address in missing:
            self._add_address(address)
        routes = self._routes()
        for destination in sorted(routes - wanted.routes, key=str):
            self._remove_route(destination)
        for destination in sorted(wanted.routes - routes, key=str):
            self._add_route(destination)
        return (*self._ipv6_warning(), *self._rival_warnings(missing))

    def _routes(self) -> set[IPNetwork]:
        return set(self._kernel.our_routes(self._link.ifindex))

    def _restore_routes(self, before: set[IPNetwork]) -> None:
        now = self._routes()
        for destination in now - before:
            _undo_step(self._kernel.delete_route, self._link.ifindex, destination)
        for destination in before - now:
            _undo_step(self._kernel.add_route, self._link.ifindex, destination)

    def _addresses(self) -> set[InterfaceAddress]:
        """Without what the kernel itself gives an IPv6 link."""
        return {
            entry.address
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
            return
        self._undo.callback(_undo_step, self._kernel.delete_address, self._link.ifindex, address)

    def _remove_address(self, address: InterfaceAddress) -> None:
        try:
            self._kernel.delete_address(self._link.ifindex, address)
        except RtnetlinkError as error:
            if error.error_number != errno.EADDRNOTAVAIL:
                raise
        self._undo.callback(_undo_step, self._kernel.add_address, self._link.ifindex, address)

    def _add_route(self, destination: IPNetwork) -> None:
        try:
            self._kernel.add_route(self._link.ifindex, destination)
        except RtnetlinkError as error:
            if error.error_number != errno.EEXIST:
                self._tolerate_missing_ipv6(error, destination.version, str(destination))
            elif rival := self._rival_of(destination):
                raise rival from error

    def _remove_route(self, destination: IPNetwork) -> None:
        try:
            self._kernel.delete_route(self._link.ifindex, destination)
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
                f"no IPv6 on {self._link.name}: without {', '.join(self._without_ipv6)}",
                code=Code.NO_IPV6,
                hint="allow it with: sysctl -w net.ipv6.conf.default.disable_ipv6=0",
            ),
        )

    def _rival_warnings(self, addresses: list[InterfaceAddress]) -> Warnings:
        """The kernel makes the route to an address's subnet without asking whether another link has one."""
        subnets = (address.subnet for address in addresses)
        rivals = (self._rival_of(subnet) for subnet in subnets if subnet.num_addresses > 1)
        return tuple(rival for rival in rivals if rival)

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
            hint=f"where {rival} is on the same network, take it down first; else choose another subnet, or "
            "remove that route",
        )


def _undo_step(step: Callable[..., None], *arguments: object, **keywords: object) -> None:
    """The first error is the one to report, and the link is given up anyway: this one is only logged."""
    try:
        step(*arguments, **keywords)
    except SystemSetupError as error:
        _logger.warning("while undoing a change: %s", error)
