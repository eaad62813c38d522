"""An interface of ours and what is around it: where a node's data plane is, for its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from wh.config.model import IPAddress
from wh.net.links import interface
from wh.net.links.host import host_addresses, of_host
from wh.net.links.interface import Kernel, Restored, Wanted, Warnings
from wh.net.links.netlink_socket import NetlinkSocket
from wh.net.links.offloads import Features
from wh.net.links.rtnetlink import Link

_T = TypeVar("_T")


class OwnLink:
    """An interface by the index that it has, whatever its name is later. features: of its device, where those
    are looked at."""

    def __init__(self, name: str, features: Features | None = None) -> None:
        self.name = name
        self._ifindex: int | None = None
        self._restored: Restored | None = None
        self._features = features

    def bring_up(self, kernel: Kernel, wanted: Wanted) -> Warnings:
        link = interface.find_link(kernel, self.name)
        warnings = interface.bring_up(kernel, link, wanted)
        self._ifindex = link.ifindex
        if self._features is not None:
            self._features.note(link.name)
        return warnings

    def update(self, kernel: Kernel, wanted: Wanted) -> Warnings:
        self._restored = None
        return interface.update(kernel, self._find(kernel) or interface.find_link(kernel, self.name), wanted)

    def restore(self, kernel: Kernel, wanted: Wanted) -> Restored | None:
        link = self._find(kernel)
        if link is None:
            return None
        self.name = link.name
        self._restored = restored = interface.restore(kernel, link, wanted, self._restored)
        if self._features is not None and self._features.restore(link.name):
            restored = restored._replace(lost=(*restored.lost, "its offloads"))
        return restored

    def local_addresses(self, kernel: Kernel) -> list[IPAddress]:
        own = self._find(kernel)
        return interface.local_addresses(kernel, None if own is None else own.ifindex)

    def _find(self, kernel: Kernel) -> Link | None:
        """None where it is in another namespace; before it is brought up it goes by its name."""
        for link in kernel.links():
            if link.ifindex == self._ifindex or (self._ifindex is None and link.name == self.name):
                return link
        return None


class HostLinks:
    """Links (wh.net.links.namespaces) of the network namespace of this process. Operations are done one after
    the other in one thread: thousands of routes take a while."""

    def __init__(self, name: str) -> None:
        self._link = OwnLink(name, Features())
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")

    def close(self) -> None:
        """Wait for the operation under way and stop the thread; operations still waiting are cancelled."""
        self._worker.shutdown(cancel_futures=True)

    async def setup(self, wanted: Wanted) -> Warnings:
        return await self._run(lambda kernel: self._link.bring_up(kernel, wanted))

    async def update(self, wanted: Wanted) -> Warnings:
        return await self._run(lambda kernel: self._link.update(kernel, wanted))

    async def restore(self, wanted: Wanted) -> Restored | None:
        return await self._run(lambda kernel: self._link.restore(kernel, wanted))

    @property
    def name(self) -> str:
        return self._link.name

    async def local_addresses(self) -> list[IPAddress]:
        return await self._run(self._link.local_addresses)

    async def _run(self, operation: Callable[[NetlinkSocket], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, of_host, operation)


class PrivateLinks:
    """The same of a private namespace, in which there is not much: done at once."""

    def __init__(self, kernel: NetlinkSocket, name: str) -> None:
        self._kernel = kernel
        self._link = OwnLink(name)

    def close(self) -> None:
        """The socket belongs to the namespace."""

    async def setup(self, wanted: Wanted) -> Warnings:
        return self._link.bring_up(self._kernel, wanted)

    async def update(self, wanted: Wanted) -> Warnings:
        return self._link.update(self._kernel, wanted)

    async def restore(self, wanted: Wanted) -> Restored | None:
        return self._link.restore(self._kernel, wanted)

    @property
    def name(self) -> str:
        return self._link.name

    async def local_addresses(self) -> list[IPAddress]:
        return host_addresses()
