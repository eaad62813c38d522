"""What the daemon does for its command line: the verbs of wh.ipc.schema.

A verb translates: words into keys, the engine's notices into results. The work is the engine's or the
service's.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from wh.config.model import Network
from wh.engine.commands import Notify
from wh.engine.events import Event, ForgetRequested, Key, LookupRequested, PingRequested
from wh.errors import Code, IpcError, SystemSetupError
from wh.ipc import schema
from wh.ipc.server import Handler, Progress
from wh.naming.table import NameEntry, NameTable
from wh.trust.invitation import Contact, Invitation, decode_untrusted, encode
from wh.wire.address import Address
from whcore.keys import SecretKey, encode_key


class Daemon(Protocol):
    """What the verbs need of a running node: wh.daemon.running_node.RunningNode."""

    @property
    def network(self) -> Network: ...

    @property
    def own_key(self) -> Key: ...

    def status(self) -> schema.Status: ...

    def netcheck(self) -> schema.NetCheck: ...

    def health(self) -> schema.Health: ...

    async def reload(self) -> schema.Reloaded: ...

    def request_stop(self) -> None: ...

    def dispatch(self, *events: Event) -> None: ...

    def ask(self, make_event: Callable[[int], Event]) -> AsyncGenerator[Notify, None]: ...

    async def invite(self, name: str, expires_s: int | None) -> Invitation: ...

    async def claim(
        self,
        server: Key,
        alias: SecretKey,
        endpoints: Sequence[Address] = (),
        relays: Sequence[Contact] = (),
    ) -> Mapping[str, Any]: ...

    async def revoke(self, key: Key) -> None: ...


class Verbs:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "status": self.status,
            "netcheck": self.netcheck,
            "health": self.health,
            "resolve": self.resolve,
            "lookup": self.lookup,
            "ping": self.ping,
            "down": self.down,
            "reload": self.reload,
            "forget": self.forget,
            "invite": self.invite,
            "authenticate": self.authenticate,
            "claim": self.claim,
            "revoke": self.revoke,
        }

    async def status(self, _: schema.NoArguments, __: Progress) -> schema.Status:
        return self._daemon.status()

    async def netcheck(self, _: schema.NoArguments, __: Progress) -> schema.NetCheck:
        return self._daemon.netcheck()

    async def health(self, _: schema.NoArguments, __: Progress) -> schema.Health:
        return self._daemon.health()

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
        relays = [encode_key(relay) for relay in body["relays"]]
        return msgspec.convert({**body, "public_key": encode_key(key), "relays": relays}, schema.LookupResult)

    async def ping(self, arguments: schema.PeerArguments, _: Progress) -> schema.PingResult:
        entry = self._find_other(arguments.peer)
        body = await self._result(lambda request: PingRequested(request, entry.key))
        who = {"public_key": encode_key(entry.key), "hostname": entry.hostname}
        via = encode_key(body["via"]) if body["via"] is not None else None
        return msgspec.convert({**body, **who, "via": via}, schema.PingResult)

    # Who comes and who goes.

    async def invite(self, arguments: schema.InviteArguments, _: Progress) -> schema.Invited:
        invited = await self._daemon.invite(arguments.name, arguments.expires_s)
        entry = self._find(arguments.name)
        return schema.Invited(
            invitation=encode(invited),
            name=arguments.name,
            alias=encode_key(entry.key),
            address=str(entry.addresses[0]) if entry.addresses else None,
            expires_unix=invited.expiry or None,
        )

    async def authenticate(
        self, arguments: schema.AuthenticateArguments, _: Progress
    ) -> schema.Authenticated:
        """As the original: an alias whose private half is in a file."""
        server = self._find_other(arguments.peer).key
        alias = await asyncio.to_thread(_read_alias, arguments.descriptor)
        return self._place(server, await self._daemon.claim(server, alias))

    async def claim(self, arguments: schema.ClaimArguments, _: Progress) -> schema.Authenticated:
        invited = decode_untrusted(arguments.invitation)
        invited.check_usable(now_unix=time.time(), own_key=self._daemon.own_key)
        alias = await asyncio.to_thread(invited.alias_secret)
        server = invited.server_key
        body = await self._daemon.claim(server, alias, invited.endpoints, invited.relays)
        return self._place(server, body)

    def _place(self, server: Key, body: Mapping[str, Any]) -> schema.Authenticated:
        facts = {**_checked(body), "public_key": encode_key(server)}
        return msgspec.convert(facts, schema.Authenticated)

    async def revoke(self, arguments: schema.PeerArguments, _: Progress) -> schema.Revoked:
        """The data plane forgets the peer with the reload, the engine its session and path after it."""
        entry = self._find_other(arguments.peer)
        peer = self._daemon.network.peer(entry.key)
        await self._daemon.revoke(entry.key)
        self._daemon.dispatch(ForgetRequested(entry.key))
        kind = peer.kind.value if peer is not None else ""
        return schema.Revoked(encode_key(entry.key), entry.hostname, kind)

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


def _read_alias(descriptor: int) -> SecretKey:
    """Raises SystemSetupError, InvalidKey."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise SystemSetupError("the private key is in no regular file", code=Code.KEY_FILE_UNREADABLE)
    try:
        return SecretKey.read_fd(descriptor)
    except OSError as error:
        raise SystemSetupError(
            f"cannot read the private key: {error.strerror}", code=Code.KEY_FILE_UNREADABLE
        ) from None


def _checked(body: Mapping[str, Any]) -> Mapping[str, Any]:
    if (failure := body.get("error")) is not None:
        raise IpcError(failure["message"], code=failure["code"], hint=failure.get("hint", ""))
    return body
