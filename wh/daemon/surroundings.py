"""What changes around a running node: the host's addresses, as the engine hears of them, and what of the
overlay's own may have been taken away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack

from wh.config.model import IPAddress
from wh.daemon.parts import Parts
from wh.engine.events import LocalAddresses
from wh.errors import SystemSetupError
from wh.net.links.link_monitor import LinkMonitor, open_change_socket
from wh.wire.address import Address, pack

log = logging.getLogger(__name__)


class Surroundings:
    """undo: what ends all that runs here."""

    def __init__(self, parts: Parts, undo: AsyncExitStack) -> None:
        self._parts = parts
        self._undo = undo
        self._local: LocalAddresses | None = None
        self._first = asyncio.ensure_future(parts.links.local_addresses())
        undo.callback(self._first.cancel)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """With our port."""
        return self._local.addresses if self._local is not None else ()

    async def tell(self) -> None:
        """What was read from the start on. Raises SystemSetupError."""
        self._tell(await self._first)

    def watch(self) -> None:
        """Tell what changes, from now on."""
        changed, keeper = asyncio.Event(), self._parts.keeper

        def notice() -> None:
            keeper.notice()
            changed.set()

        for work in (keeper.run(), self._follow(changed)):
            self._undo.callback(asyncio.ensure_future(work).cancel)
        keeper.notice()  # a look at once, for what was not as it should be from the beginning
        try:
            notices = open_change_socket()
        except OSError as error:
            log.warning("changes of this host's addresses will not be noticed: %s", error)
            return
        monitor = LinkMonitor(asyncio.get_running_loop(), notices, notice)
        self._undo.callback(monitor.close)

    async def _follow(self, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            changed.clear()
            self._parts.mapper.network_changed()
            try:
                addresses = await self._parts.links.local_addresses()
            except SystemSetupError as error:
                log.warning("cannot read the addresses of this host: %s", error)
            else:
                self._parts.runner.forget_sources()
                self._tell(addresses)

    def _tell(self, addresses: Sequence[IPAddress]) -> None:
        """An engine that hears of addresses measures its NAT again, so only of new ones."""
        packed = tuple(sorted(pack(address, self._parts.listen_port) for address in addresses))
        local = LocalAddresses(self._parts.sockets, packed)
        if local != self._local:
            self._local = local
            self._parts.runner.dispatch(local)
