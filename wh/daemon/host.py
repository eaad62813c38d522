"""An overlay plan, carried out on this host: its interface, its data-plane peers, its hosts file."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from wh.config.model import IPNetwork
from wh.daemon.overlay import OverlayPlan
from wh.engine.events import Key
from wh.errors import Code, UserError, one_line
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
    ipv6_changed: told whether the interface takes IPv6, once it does not, and at each change."""

    def __init__(
        self,
        datapath: Datapath,
        links: Links,
        *,
        has_interface: bool,
        names: Names | None,
        block: HostsBlock | None = None,
        network_secret: bytes | None = None,
        ipv6_changed: Callable[[bool], None] = lambda taken: None,
    ) -> None:
        self._datapath = datapath
        self._links = links
        self._has_interface = has_interface
        self._names = names
        self._block = block
        self._network_secret = network_secret
        self._ipv6_changed = ipv6_changed
        self._takes_ipv6 = True
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
                found = await self._links.setup(plan.link)
                self._note_ipv6(all(each.code != Code.NO_IPV6 for each in found))
                warnings = [one_line(each) for each in found]
            self._plan = plan
            return warnings + await self._write_names(plan)

    async def change(self, plan: OverlayPlan) -> list[str]:
        """Go over to another plan: all of it, or (SystemSetupError) nothing. Returns warnings."""
        warnings: list[str] = []
        async with self._changing:
            if self._has_interface:
                warnings = [one_line(each) for each in await self._links.update(plan.link)]
                self._set_peers(plan)
            self._plan = plan
            return warnings + await self._write_names(plan)

    async def change_names(self, plan: OverlayPlan) -> None:
        """Go over to a plan that differs in names alone."""
        async with self._changing:
            self._plan = plan
            for warning in await self._write_names(plan):
                log.warning("%s", warning)

    async def restore(self) -> Restored:
        """What others took of the plan, put back. Raises SystemSetupError."""
        async with self._changing:
            if self._plan is None or not self._has_interface:
                return Restored(self._links.name)
            restored = await self._links.restore(self._plan.link)
            if restored is None:  # in another namespace it is the business of whoever put it there
                return Restored(self._links.name)
            self._note_ipv6(restored.ipv6)
            if await self._names_are_gone(self._plan) and not await self._write_names(self._plan):
                return restored._replace(lost=(*restored.lost, "its names in the hosts file"))
            return restored

    def _note_ipv6(self, taken: bool) -> None:
        """Where there is none the kernel drops it in silence: senders are told instead, and members."""
        if taken != self._takes_ipv6:
            self._takes_ipv6 = taken
            self._datapath.take_ipv6(taken)
            self._ipv6_changed(taken)

    async def _names_are_gone(self, plan: OverlayPlan) -> bool:
        block = self._block
        return block is not None and not await asyncio.to_thread(block.is_right, plan.names)

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
            return await self._names.write_names(plan.names)
        except UserError as error:
            return [one_line(error)]
