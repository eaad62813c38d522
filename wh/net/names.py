"""Resolution of the host names of endpoints, through the system's resolver, with a limit on time and
number."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from wh.engine.events import NameResolved
from wh.wire.address import Address, is_usable, pack

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
AT_ONCE_MAX = 16
ADDRESSES_MAX = 8


class NameResolver:
    """resolve() never raises: a name that cannot be resolved has no addresses."""

    def __init__(self, *, allow_loopback: bool = False) -> None:
        self._allow_loopback = allow_loopback
        self._permits = asyncio.Semaphore(AT_ONCE_MAX)

    async def resolve(self, host: str, port: int) -> NameResolved:
        loop = asyncio.get_running_loop()
        try:
            async with self._permits, asyncio.timeout(TIMEOUT_S):
                answers = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, TimeoutError, UnicodeError) as error:  # UnicodeError: not a name that IDNA can write
            log.info("cannot resolve %s: %s", host, error or "no answer in time")
            return NameResolved(host, port, ())
        return NameResolved(host, port, self._usable(answers, port))

    def _usable(self, answers: Sequence[tuple[object, ...]], port: int) -> tuple[Address, ...]:
        """In the resolver's order, without scoped link-local addresses, which no peer could use."""
        found: dict[Address, None] = {}
        for *_, where in answers:
            host = str(where[0]) if isinstance(where, tuple) else ""
            if "%" not in host and is_usable(
                address := pack(host, port), allow_loopback=self._allow_loopback
            ):
                found[address] = None
        return tuple(found)[:ADDRESSES_MAX]
