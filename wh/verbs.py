"""What the daemon does for its command line: the verbs of wh.ipc.schema.

A verb translates: words into keys, the engine's notices into results. The work is the engine's or the
service's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from wh.commands import Notify
from wh.config.model import Network
from wh.errors import Code, IpcError
from wh.events import Event, ForgetRequested, Key, LookupRequested, PingRequested
from wh.ipc import schema
from wh.ipc.server import Handler, Progress
from wh.naming.table import NameEntry, NameTable
from whcore.keys import encode_key


class Daemon(Protocol):
    """What the verbs need of a running node: wh.running_node.RunningNode."""

    @property
    def network(self) -> Network: ...

    @property
    def own_key(self) -> Key: ...

    def status(self) -> schema.Status: ...

    async def reload(self) -> schema.Reloaded: ...

    def request_stop(self) -> None: ...

    def dispatch(self, *events: Event) -> None: ...

    def ask(self, make_event: Callable[[int], Event]) -> AsyncGenerator[Notify, None]: ...


class Verbs:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "status": self.status,
            "resolve": self.resolve,
            "lookup": self.lookup,
            "ping": self.ping,
            "down": self.down,
            "reload": self.reload,
            "forget": self.forget,
        }

    async def status(self, _: schema.NoArguments, __: Progress) -> schema.Status:
        return self._daemon.status()

    async def resolve(self, arguments: schema.ResolveArguments, _: Progress) -> schema.ResolveResult:
        entry = self._find(arguments.name)
        return schema.ResolveResult(
            name=arguments.name,
            public_key=encode_key(entry.key),
            hostname=entry.hostname,
            addresses=[str(address) for address in entry.addresses],
        )

    async def down(self, _: schema.NoArguments, __: Progress) -> schema.Nothing:
        """The answer still goes out: stopping begins when this has returned."""
        self._daemon.request_stop()
        return schema.Nothing()

    async def reload(self, _: schema.NoArguments, __: Progress) -> schema.Reloaded:
        return await self._daemon.reload()

    async def forget(self, arguments: schema.PeerArguments, _: Progress) -> schema.Nothing:
        self._daemon.dispatch(ForgetRequested(self._find_other(arguments.peer).key))
        return schema.Nothing()

    async def lookup(self, arguments: schema.PeerArguments, progress: Progress) -> schema.LookupResult:
        key = self._find_other(arguments.peer).key
        body = await self._result(
            lambda request: LookupRequested(request, key),
            lambda body: progress(msgspec.convert(body, schema.LookupProgress)),
        )
        return msgspec.convert({**body, "public_key": encode_key(key)}, schema.LookupResult)

    async def ping(self, arguments: schema.PeerArguments, _: Progress) -> schema.PingResult:
        entry = self._find_other(arguments.peer)
        body = await self._result(lambda request: PingRequested(request, entry.key))
        who = {"public_key": encode_key(entry.key), "hostname": entry.hostname}
        via = encode_key(body["via"]) if body["via"] is not None else None
        return msgspec.convert({**body, **who, "via": via}, schema.PingResult)

    async def _result(
        self,
        make_event: Callable[[int], Event],
        on_progress: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> Mapping[str, Any]:
        """The body of the final notice. Raises IpcError where it is an error."""
        async with aclosing(self._daemon.ask(make_event)) as notices:
            async for notice in notices:
                if notice.final:
                    return _checked(notice.body)
                on_progress(notice.body)
        raise RuntimeError("the engine gave no result")

    def _find(self, word: str) -> NameEntry:
        entry = NameTable(self._daemon.network).find(word)
        if entry is None:
            raise IpcError(
                f"no peer is called {word!r}",
                code=Code.UNKNOWN_PEER,
                hint="use a name of the network file, or a key of 43 characters",
            )
        return entry

    def _find_other(self, word: str) -> NameEntry:
        entry = self._find(word)
        if entry.key == self._daemon.own_key:
            raise IpcError(f"{entry.label} is this node itself", code=Code.UNKNOWN_PEER)
        return entry


def _checked(body: Mapping[str, Any]) -> Mapping[str, Any]:
    if (failure := body.get("error")) is not None:
        raise IpcError(failure["message"], code=failure["code"], hint=failure.get("hint", ""))
    return body
