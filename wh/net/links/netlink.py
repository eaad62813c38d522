"""Links, addresses and routes of this host, for an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from wh.config.model import IPAddress, IPNetwork
from wh.errors import SystemSetupError
from wh.net.links import interface
from wh.net.links.rtnetlink import DumpInterrupted, InterfaceAddress, Rtnetlink, open_rtnetlink

_ATTEMPTS = 4  # at an operation in whose middle the configuration changed

_T = TypeVar("_T")


class LinkManager:
    """Operations on this network namespace, done one after the other in one thread. All raise
    SystemSetupError."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")

    def close(self) -> None:
        """Wait for the operation under way and stop the thread; operations still waiting are cancelled."""
        self._worker.shutdown(cancel_futures=True)

    async def setup_interface(
        self, name: str, *, mtu: int, addresses: Iterable[tuple[IPAddress, int]], routes: Iterable[IPNetwork]
    ) -> tuple[SystemSetupError, ...]:
        """Bring a link up with these (address, prefix length) and routes through it, or leave it as it was.

        Returns warnings, as errors that were not raised: no IPv6 on this system, a route of another link in
        the way.
        """
        wanted = _wanted(addresses, routes)
        return await self._run(lambda kernel: interface.bring_up(kernel, name, mtu, wanted))

    async def update_interface(
        self, name: str, *, addresses: Iterable[tuple[IPAddress, int]], routes: Iterable[IPNetwork]
    ) -> tuple[SystemSetupError, ...]:
        """Add and remove what differs, or leave all as it was. Returns warnings as setup_interface does."""
        wanted = _wanted(addresses, routes)
        return await self._run(lambda kernel: interface.update(kernel, name, wanted))

    async def link_exists(self, name: str) -> bool:
        return await self._run(lambda kernel: kernel.link(name) is not None)

    async def delete_link(self, name: str) -> None:
        """That there is no such link is no error."""
        await self._run(lambda kernel: interface.delete(kernel, name))

    async def local_addresses(self, *, exclude: str | None = None) -> list[IPAddress]:
        """What other hosts can know us by: the addresses of all links that are up, except one link's,
        loopback, link-local IPv6, and those that duplicate address detection has not passed (yet)."""
        return await self._run(lambda kernel: interface.local_addresses(kernel, exclude))

    async def _run(self, operation: Callable[[Rtnetlink], _T]) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, _in_worker, operation)


def _wanted(addresses: Iterable[tuple[IPAddress, int]], routes: Iterable[IPNetwork]) -> interface.Wanted:
    return interface.Wanted(frozenset(InterfaceAddress(*address) for address in addresses), frozenset(routes))


def _in_worker(operation: Callable[[Rtnetlink], _T]) -> _T:
    for _ in range(_ATTEMPTS - 1):
        try:
            with open_rtnetlink() as kernel:
                return operation(kernel)
        except DumpInterrupted:
            continue
    with open_rtnetlink() as kernel:
        return operation(kernel)
