"""Telling that links, addresses or routes of this host have changed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from wh.net.opening import closed_on_error

SETTLE_S = 0.1  # one change comes as a burst of messages: link, addresses, routes

# linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR,
# RTMGRP_IPV6_ROUTE; the bits of RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_NEXTHOP
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400 | 1 << 7 | 1 << 18 | 1 << 31
_READ_LEN = 8192
_READS_AT_ONCE = 64


def open_change_socket() -> socket.socket:
    """A non-blocking rtnetlink socket that receives every change in this network namespace."""
    changes = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    with closed_on_error(changes):
        changes.bind((0, _GROUPS))
    return changes


class LinkMonitor:
    """Calls back once for each burst of changes, SETTLE_S after its first.

    The messages are only a wake-up: what the configuration is now has to be read, which also covers
    messages that the kernel dropped (ENOBUFS).
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, changes: socket.socket, callback: Callable[[], None]
    ) -> None:
        """Takes ownership of changes (from open_change_socket)."""
        self._loop = loop
        self._changes = changes
        self._callback = callback
        self._timer: asyncio.TimerHandle | None = None
        loop.add_reader(changes, self._on_readable)

    def close(self) -> None:
        """No callback comes after this. Idempotent."""
        if self._changes.fileno() >= 0:
            self._loop.remove_reader(self._changes)
            self._changes.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_readable(self) -> None:
        # ENOBUFS: some messages are lost, which is as good as having read them; EAGAIN: nothing is left
        with contextlib.suppress(OSError):
            for _ in range(_READS_AT_ONCE):
                self._changes.recv(_READ_LEN)
        if self._timer is None:
            self._timer = self._loop.call_later(SETTLE_S, self._on_settled)

    def _on_settled(self) -> None:
        self._timer = None
        self._callback()
