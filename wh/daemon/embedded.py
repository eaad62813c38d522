"""A node inside a program that has no event loop of its own: in a thread, called from other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, Self, TypeVar

from wh.config.model import Network
from wh.daemon.parts import Options
from wh.daemon.running_node import RunningNode
from wh.engine.events import Event, Key
from wh.errors import Code, IpcError
from wh.ipc.schema import Ready, Status
from wh.net.links.namespaces import Namespace
from whcore.keys import SecretKey

T = TypeVar("T")


def options_of(namespace: Namespace) -> Options:
    """Of a node that is a part of this program alone: nothing on the host or on disk, no socket of `wh`."""
    return Options(
        config_path=None,
        interface="wh0",
        listen_port=None,
        mode="nat",  # gone in a moment, for all that others know: no place in anybody's routing table
        hosts_path=None,
        ephemeral=True,
        namespace=namespace,
        sockets=False,
    )


class EmbeddedNode:
    """start() it, and close() it in any case; or `with` it. Calls block, and may come from any thread but the
    node's. Before start() and after close() they raise RuntimeError.

    The thread runs plain asyncio: the data plane does not need Python, and importing uvloop takes time."""

    def __init__(self, network: Network, secret_key: SecretKey, options: Options) -> None:
        self._network = network
        self._secret_key = secret_key
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="wh-node", daemon=True)
        self._node: RunningNode | None = None
        self._ready: Ready | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ready(self) -> Ready:
        """What start() made."""
        if self._ready is None:
            raise RuntimeError("the node has not been started")
        return self._ready

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    @property
    def node(self) -> RunningNode:
        if self._node is None:
            raise RuntimeError("the node has not been started")
        return self._node

    def start(self) -> Ready:
        """Once. Raises SystemSetupError."""
        self._thread.start()

        async def start() -> Ready:
            self._node = RunningNode(self._network, self._secret_key, self._options)
            return await self._node.start()

        self._ready = self.run(start())
        return self._ready

    def close(self) -> None:
        """Say goodbye to the peers. Idempotent."""
        if not self._thread.is_alive():
            return
        if self._node is not None:
            self.run(self._node.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """The result of a coroutine that runs beside the node. Raises TimeoutError, and what it raises."""
        if not self._thread.is_alive() or self._thread is threading.current_thread():
            work.close()
            raise RuntimeError("the node is not running, or this is its own thread")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[[RunningNode], T]) -> T:
        """The result of a function that is called with the node, in its thread."""

        async def call() -> T:
            return function(self.node)

        return self.run(call())

    def status(self) -> Status:
        return self.call(lambda node: node.status())

    def dispatch(self, *events: Event) -> None:
        self.call(lambda node: node.dispatch(*events))

    def ask(self, make_event: Callable[[int], Event], timeout_s: float | None = None) -> dict[str, Any]:
        """The body of the final answer to a request. Raises IpcError where it is an error, TimeoutError."""

        async def ask() -> dict[str, Any]:
            async with aclosing(self.node.ask(make_event)) as notices:
                async for notice in notices:
                    if notice.final:
                        return notice.body
            raise IpcError("the node is stopping", code=Code.NO_DAEMON)

        body = self.run(ask(), timeout_s)
        if (failure := body.get("error")) is not None:
            raise IpcError(failure["message"], code=failure["code"], hint=failure.get("hint", ""))
        return body

    @property
    def own_key(self) -> Key:
        return self.node.own_key
