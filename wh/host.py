"""An overlay plan, carried out on this host: its interface, its data-plane peers, its hosts file."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

from wh.config.model import IPNetwork
from wh.errors import SystemSetupError
from wh.events import Key
from wh.ipc.listener import is_alive
from wh.ipc.paths import run_dir, socket_path
from wh.naming import hosts
from wh.net.namespaces import Links
from wh.overlay import MTU, OverlayPlan
from whcore.datapath import Datapath

log = logging.getLogger(__name__)


class Host:
    """interface: None where the node has none (it only serves the DHT). hosts_path: None to leave that file
    alone. network_secret: 32 bytes, of the network whose members the plans name."""

    def __init__(
        self,
        name: str,
        datapath: Datapath,
        links: Links,
        *,
        has_interface: bool,
        hosts_path: Path | None,
        network_secret: bytes | None = None,
    ) -> None:
        self._name = name
        self._datapath = datapath
        self._links = links
        self._has_interface = has_interface
        self._hosts_path = hosts_path
        self._network_secret = network_secret
        self._allowed_ips: dict[Key, frozenset[IPNetwork]] = {}
        self.peers_lock = threading.Lock()  # held by whoever changes peers of the data plane

    def members(self) -> dict[Key, frozenset[IPNetwork]]:
        """By public key the prefixes of each peer that the plan made. With peers_lock held."""
        return self._allowed_ips

    async def set_up(self, plan: OverlayPlan) -> list[str]:
        """Bring the interface up. Returns warnings; raises SystemSetupError, with nothing but peers left
        behind."""
        warnings: list[str] = []
        if self._has_interface:
            self._set_peers(plan)
            refused = await self._links.setup_interface(
                self._name, mtu=MTU, addresses=plan.addresses, routes=plan.routes
            )
            warnings = [str(each) for each in refused]
        return warnings + await self._write_names(plan)

    async def change(self, plan: OverlayPlan) -> list[str]:
        """Go over to another plan: all of it, or (SystemSetupError) nothing. Returns warnings."""
        warnings: list[str] = []
        if self._has_interface:
            refused = await self._links.update_interface(
                self._name, addresses=plan.addresses, routes=plan.routes
            )
            warnings = [str(each) for each in refused]
            self._set_peers(plan)
        return warnings + await self._write_names(plan)

    async def remove_names(self) -> None:
        """The interface goes by itself, with the data plane."""
        if self._hosts_path is None:
            return
        try:
            await asyncio.to_thread(hosts.remove, self._hosts_path, self._name, run_directory=Path(run_dir()))
        except SystemSetupError as error:
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
        if self._hosts_path is None:
            return []
        try:
            return await asyncio.to_thread(self._write_names_blocking, self._hosts_path, plan)
        except SystemSetupError as error:
            return [str(error)]

    def _write_names_blocking(self, path: Path, plan: OverlayPlan) -> list[str]:
        directory = Path(run_dir())
        for interface in hosts.interfaces(path) - {self._name}:
            if not is_alive(Path(socket_path(interface))):  # a daemon that was killed left its names
                hosts.remove(path, interface, run_directory=directory)
        conflicts = hosts.write(path, self._name, plan.names, run_directory=directory)
        return [
            f"{path}:{conflict.line} gives {conflict.hostname} the address {conflict.address}; that line wins"
            for conflict in conflicts
        ]
