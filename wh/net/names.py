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
FAILURES_MAX = 256


class NameResolver:
    """resolve() never raises: a name that cannot be resolved has no addresses."""

    def __init__(self, *, allow_loopback: bool = False) -> None:
        self._allow_loopback = allow_loopback
        self.failures: dict[str, str] = {}
        """Why, by name, of names that could not be resolved when they were looked up last."""
        self._permits = asyncio.Semaphore(AT_ONCE_MAX)

    async def resolve(self, host: str, port: int) -> NameResolved:
        loop = asyncio.get_running_loop()
        try:
            async with self._permits, asyncio.timeout(TIMEOUT_S):
                answers = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, TimeoutError, UnicodeError) as error:  # UnicodeError: not a name that IDNA can write
            self._tell(host, getattr(error, "strerror", None) or str(error) or "no answer in time")
            return NameResolved(host, port, ())
        self.failures.pop(host, None)
        return NameResolved(host, port, self._usable(answers, port))

    def _tell(self, host: str, reason: str) -> None:
        """Once, until it is another reason or the name is found."""
        if self.failures.get(host) == reason or len(self.failures) >= FAILURES_MAX:
            return
        self.failures[host] = reason
        log.warning("cannot resolve %s: %s", host, reason)

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
