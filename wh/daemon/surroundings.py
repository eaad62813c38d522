"""What changes around a running node: the host's addresses and ways out, as the engine hears of them; what
leads elsewhere than it did; and what of the overlay's own may have been taken away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import NamedTuple, TypeVar

from wh.config.model import IPAddress
from wh.daemon.keeper import ToldOnce
from wh.daemon.parts import Parts
from wh.engine.events import LinksChanged, LocalAddresses
from wh.errors import SystemSetupError
from wh.net.links.host import of_host, ways_out
from wh.net.links.link_monitor import LinkMonitor, open_change_socket
from wh.net.links.netlink_socket import NetlinkSocket
from wh.net.links.rtnetlink import Way
from wh.net.links.source_routes import Use
from wh.wire.address import Address, pack

LEARN_S = 5.0
"""How often it is noted which way each of our addresses takes, while nothing changes."""

log = logging.getLogger(__name__)

T = TypeVar("T")


class Place(NamedTuple):
    """Where this host is: others know it by these addresses, and it sends to the Internet by these ways."""

    addresses: Sequence[IPAddress]
    ways: tuple[Way | None, ...]


class Surroundings:
    """undo: what ends all that runs here. clock_warnings: what is wrong with clocks now, for the log."""

    def __init__(
        self,
        parts: Parts,
        undo: AsyncExitStack,
        clock_warnings: Callable[[], tuple[SystemSetupError, ...]],
    ) -> None:
        self._clock_warnings = clock_warnings
        self._told = ToldOnce()
        self._parts = parts
        self._undo = undo
        self._local: LocalAddresses | None = None
        self._ways: tuple[Way | None, ...] = ()
        self._first = asyncio.ensure_future(self._look())
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
            with suppress(TimeoutError):
                async with asyncio.timeout(LEARN_S):
                    await changed.wait()
            try:
                if changed.is_set():
                    changed.clear()
                    await self._look_around()
                self._told.tell(self._clock_warnings())
                await self._on_ways(self._parts.uplinks.learn)
            except SystemSetupError as error:
                log.warning("cannot read the addresses and routes of this host: %s", error)

    async def _look_around(self) -> None:
        self._parts.mapper.network_changed()
        self._parts.uplinks.refuse(await self._on_ways(self._parts.uplinks.judge))
        self._tell(await self._look())
        self._parts.runner.dispatch(LinksChanged())

    async def _on_ways(self, operation: Callable[[NetlinkSocket, frozenset[Use]], T]) -> T:
        """In a thread: there may be thousands."""
        uses = self._parts.uplinks.uses()
        return await asyncio.to_thread(of_host, lambda kernel: operation(kernel, uses))

    async def _look(self) -> Place:
        addresses = await self._parts.links.local_addresses()
        return Place(addresses, await asyncio.to_thread(of_host, ways_out))

    def _tell(self, place: Place) -> None:
        """An engine that hears of addresses measures its NAT again, so only of new ones, or new ways out."""
        packed = tuple(sorted(pack(address, self._parts.listen_port) for address in place.addresses))
        local = LocalAddresses(self._parts.sockets, packed)
        if (local, place.ways) != (self._local, self._ways):
            self._local, self._ways = local, place.ways
            self._parts.runner.dispatch(local)
