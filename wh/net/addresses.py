"""Notice of changes of this host's addresses (rtnetlink(7) multicast groups)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

# linux/rtnetlink.h
_RTMGRP_LINK = 0x1
_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV6_IFADDR = 0x100

SETTLE_S = 0.5
"""Changes come in bursts: an interface that comes up gets its addresses one after the other."""
NOTICE_LEN_MAX = 65536


class AddressWatcher:
    """Calls `on_change` once after every burst of changes, never twice at a time."""

    def __init__(self, on_change: Callable[[], Awaitable[None]]) -> None:
        self._on_change = on_change
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Without netlink (a sandbox) there is no notice of changes, which is logged."""
        try:
            notices = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
            notices.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
        except OSError as error:
            log.warning("changes of this host's addresses will not be noticed: %s", error)
            return
        self._socket = notices
        asyncio.get_running_loop().add_reader(notices.fileno(), self._on_notice)
        self._task = asyncio.ensure_future(self._report())

    async def stop(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _on_notice(self) -> None:
        """What changed does not matter; the answer is to read everything again."""
        if self._socket is not None:
            try:
                self._socket.recv(NOTICE_LEN_MAX)
            except BlockingIOError:
                return
            except OSError as error:  # ENOBUFS: notices were lost, so something changed
                log.debug("netlink: %s", error)
        self._changed.set()

    async def _report(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE_S)
            self._changed.clear()
            await self._on_change()
