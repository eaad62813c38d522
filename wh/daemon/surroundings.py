"""What changes around a running node: the host's addresses, routes and links, and what of it the node has to
know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from wh.config.model import IPAddress
from wh.daemon.keeper import Keeper
from wh.errors import SystemSetupError
from wh.net.links.link_monitor import LinkMonitor, open_change_socket
from wh.net.links.namespaces import Links
from wh.net.mapping.port_mapper import PortMapper
from wh.net.runner import Runner

log = logging.getLogger(__name__)


class Surroundings:
    """start() it, then close(). tell: takes the host's addresses, after each change."""

    def __init__(
        self,
        links: Links,
        runner: Runner,
        mapper: PortMapper,
        keeper: Keeper,
        tell: Callable[[Sequence[IPAddress]], None],
    ) -> None:
        self._links = links
        self._runner = runner
        self._mapper = mapper
        self._keeper = keeper
        self._tell = tell
        self._changed = asyncio.Event()
        self._undo = ExitStack()

    def start(self) -> None:
        for work in (self._keeper.run(), self._follow()):
            self._undo.callback(asyncio.ensure_future(work).cancel)
        self._keeper.notice()  # a look at once, for what was not as it should be from the beginning
        try:
            notices = open_change_socket()
        except OSError as error:
            log.warning("changes of this host's addresses will not be noticed: %s", error)
            return
        monitor = LinkMonitor(asyncio.get_running_loop(), notices, self._notice)
        self._undo.callback(monitor.close)

    def close(self) -> None:
        """Idempotent."""
        self._undo.close()

    def _notice(self) -> None:
        self._keeper.notice()
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._mapper.network_changed()
            try:
                addresses = await self._links.local_addresses()
            except SystemSetupError as error:
                log.warning("cannot read the addresses of this host: %s", error)
            else:
                self._runner.forget_sources()
                self._tell(addresses)
