"""An overlay plan, carried out on this host: its interface, its data-plane peers, its hosts file."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from wh.config.model import IPNetwork
from wh.daemon.overlay import OverlayPlan
from wh.engine.events import Key
from wh.errors import Code, SystemSetupError, UserError, one_line
from wh.naming.hosts_block import HostsBlock
from wh.naming.table import NameEntry
from wh.net.links.interface import Restored
from wh.net.links.namespaces import Links
from whcore.datapath import Datapath

log = logging.getLogger(__name__)


class Names(Protocol):
    """Who may write the hosts file: wh.helper.client.Helper. Both raise UserError."""

    async def write_names(self, entries: Iterable[NameEntry]) -> list[str]:
        """Our interface's block. Returns warnings."""

    async def remove_names(self) -> None: ...


class Host:
    """has_interface: False where the node only serves the DHT. names: None to leave the hosts file alone.
    block: where the names are. network_secret: 32 bytes, of the network whose members the plans name.
    inside_changed(ipv6): whether this host takes IPv6 from the interface, where that is not as before."""

    def __init__(
        self,
        datapath: Datapath,
        links: Links,
        *,
        has_interface: bool,
        names: Names | None,
        block: HostsBlock | None = None,
        network_secret: bytes | None = None,
        inside_changed: Callable[[bool], None] = lambda ipv6: None,
    ) -> None:
        self._datapath = datapath
        self._links = links
        self._has_interface = has_interface
        self._names = names
        self._block = block
        self._network_secret = network_secret
        self._inside_changed = inside_changed
        self._has_ipv6 = True
        self._without_ipv6: frozenset[Key] = frozenset()
        self._plan: OverlayPlan | None = None
        self._changing = asyncio.Lock()
        self._allowed_ips: dict[Key, frozenset[IPNetwork]] = {}
        self.peers_lock = threading.Lock()  # held by whoever changes peers of the data plane

    def members(self) -> dict[Key, frozenset[IPNetwork]]:
        """By public key the prefixes of each peer that the plan made. With peers_lock held."""
        return self._allowed_ips

    async def set_up(self, plan: OverlayPlan) -> list[str]:
        """Bring the interface up. Returns warnings; raises SystemSetupError, with nothing but peers left
        behind."""
        warnings: list[str] = []
        async with self._changing:
            if self._has_interface:
                self._set_peers(plan)
                warnings = self._judge(await self._links.setup(plan.link))
            self._plan = plan
            return warnings + await self._write_names(plan)

    async def change(self, plan: OverlayPlan) -> list[str]:
        """Go over to another plan: all of it, or (SystemSetupError) nothing. Returns warnings."""
        warnings: list[str] = []
        async with self._changing:
            if self._has_interface:
                warnings = self._judge(await self._links.update(plan.link))
                self._set_peers(plan)
            self._plan = plan
            return warnings + await self._write_names(plan)

    async def restore(self) -> Restored:
        """What others took of the plan, put back. Raises SystemSetupError."""
        async with self._changing:
            if self._plan is None or not self._has_interface:
                return Restored(self._links.name)
            restored = await self._links.restore(self._plan.link)
            if restored is None:  # in another namespace it is the business of whoever put it there
                return Restored(self._links.name)
            self._judge(restored.warnings)
            if await self._names_are_gone(self._plan) and not await self._write_names(self._plan):
                return restored._replace(lost=(*restored.lost, "its names in the hosts file"))
            return restored

    async def leave_out_ipv6(self, members: frozenset[Key]) -> list[str]:
        """Their hosts take none, so that what goes by name would wait for it. Returns warnings."""
        async with self._changing:
            self._without_ipv6 = members
            return [] if self._plan is None else await self._write_names(self._plan)

    def _names_of(self, plan: OverlayPlan) -> tuple[NameEntry, ...]:
        return tuple(_ipv4_of(each) if each.key in self._without_ipv6 else each for each in plan.names)

    def _judge(self, warnings: Iterable[SystemSetupError]) -> list[str]:
        """As lines. They say whether there is IPv6 inside, which its kernel drops in silence where not."""
        found = tuple(warnings)
        has_ipv6 = all(each.code != Code.NO_IPV6 for each in found)
        if has_ipv6 != self._has_ipv6:
            self._has_ipv6 = has_ipv6
            self._datapath.set_inner_ipv6(has_ipv6)
            self._inside_changed(has_ipv6)
        return [one_line(each) for each in found]

    async def _names_are_gone(self, plan: OverlayPlan) -> bool:
        block = self._block
        return block is not None and not await asyncio.to_thread(block.is_right, self._names_of(plan))

    async def remove_names(self) -> None:
        """The interface goes by itself, with the data plane."""
        if self._names is None:
            return
        try:
            await self._names.remove_names()
        except UserError as error:
            log.warning("%s", error)

    def _set_peers(self, plan: OverlayPlan) -> None:
        with self.peers_lock:
            self._replace_peers(plan)

    def _replace_peers(self, plan: OverlayPlan) -> None:
        for key in self._allowed_ips.keys() - plan.allowed_ips.keys():
            self._datapath.remove_peer(key)
            del self._allowed_ips[key]
        for key, wanted in plan.allowed_ips.items():
            if key not in self._allowed_ips:
                if self._datapath.has_peer(key):  # somebody made it with `wg`
                    self._datapath.remove_peer(key)
                self._datapath.add_peer(key, managed=True, network_secret=self._network_secret)
            present = self._allowed_ips.get(key, frozenset())
            for gone in present - wanted:
                self._datapath.remove_allowed_ip(key, gone.network_address.packed, gone.prefixlen)
            for new in wanted - present:
                self._datapath.add_allowed_ip(key, new.network_address.packed, new.prefixlen)
            self._allowed_ips[key] = wanted

    async def _write_names(self, plan: OverlayPlan) -> list[str]:
        """The network works without names, so what goes wrong here is a warning."""
        if self._names is None:
            return []
        try:
            return await self._names.write_names(self._names_of(plan))
        except UserError as error:
            return [one_line(error)]


def _ipv4_of(entry: NameEntry) -> NameEntry:
    return replace(entry, addresses=tuple(each for each in entry.addresses if each.version == 4))
