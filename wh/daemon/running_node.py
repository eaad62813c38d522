"""A running node: its life, what happens around it, and what the verbs ask of it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Any

import msgspec

from wh.config import parser
from wh.config.model import Network
from wh.config.reloading import require_reloadable
from wh.daemon import overlay
from wh.daemon.membership import Membership
from wh.daemon.parts import Options, Parts, PartsMaker
from wh.daemon.persistence.claim_log import ClaimLog
from wh.daemon.persistence.known_nodes import KnownNodes
from wh.daemon.persistence.state import state_path
from wh.daemon.reports.clocks import clock_warnings
from wh.daemon.reports.health import check_health
from wh.daemon.reports.inspection import Facts, Snapshot, describe
from wh.daemon.reports.netcheck import check_network
from wh.daemon.surroundings import Surroundings
from wh.daemon.verbs import Verbs
from wh.engine.commands import BindAlias, LeaveOutIpv6, Notify
from wh.engine.events import (
    AliasBound,
    AliasesClaimed,
    ClaimRequested,
    Event,
    Key,
    NetworkLoaded,
    Stopping,
    Woke,
)
from wh.errors import Code, ConfigError, IpcError, SystemSetupError
from wh.helper.requests import FileEdit
from wh.ipc.paths import socket_path
from wh.ipc.schema import Health, NetCheck, Ready, Reloaded, Status
from wh.ipc.server import Handler, IpcServer, Progress
from wh.naming.table import NameTable
from wh.net.links.tun import check_interface_name
from wh.net.links.tun_watch import is_up
from wh.net.runner import read_clocks
from wh.system.standard_streams import STDERR, STDOUT
from wh.trust.invitation import Contact, Invitation
from wh.wire.address import Address
from wh.wire.messages import AuthStatus
from whcore.keys import SecretKey, encode_key

log = logging.getLogger(__name__)


class RunningNode:
    """start(), then wait_for_stop(), then close(), also where start() failed."""

    def __init__(self, network: Network, secret_key: SecretKey, options: Options) -> None:
        self._undo = AsyncExitStack()
        self._network = network
        self._secret_key = secret_key
        self._options = options
        self._maker = PartsMaker(network, secret_key, options, self._undo, self)
        self._interface = self._maker.interface
        self._started_unix = time.time()
        self._parts: Parts | None = None
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._surroundings: Surroundings | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._without_ipv6: frozenset[Key] = frozenset()
        claim_log = ClaimLog(None if options.ephemeral else state_path(encode_key(self.own_key), "claims"))
        self._membership = Membership(self, claim_log, has_file=options.config_path is not None)

    @property
    def network(self) -> Network:
        return self._network

    @property
    def own_key(self) -> Key:
        return self._secret_key.public_key

    @property
    def parts(self) -> Parts:
        if self._parts is None:
            raise RuntimeError("the node has not been started")
        return self._parts

    # Life.

    async def start(self) -> Ready:
        """Raises SystemSetupError. The socket comes first and goes last: it claims the interface's name, and
        whoever waits for its end finds everything gone."""
        check_interface_name(self._interface)
        if self._options.sockets:
            await self._open_ipc()
        self._parts = parts = self._maker.make()
        self._surroundings = surroundings = Surroundings(parts, self._undo, self.clock_warnings)
        warnings = await parts.host.set_up(self._plan(self._network))
        self._start_engine(parts)
        self.dispatch(AliasesClaimed(await asyncio.to_thread(self._membership.former_claims)))
        await surroundings.tell()
        self.dispatch(parts.remembered)
        self._load_network()
        await self._remember(parts)
        surroundings.watch()
        if self._options.port_mapping and self._options.mode != "direct":  # then others reach it already
            parts.mapper.start()
        self._started.set()
        return self._ready(warnings)

    async def wait_for_stop(self) -> None:
        await self._stopping.wait()

    def request_stop(self) -> None:
        self._stopping.set()

    async def close(self) -> None:
        """Say goodbye and remove everything. Idempotent."""
        self._stopping.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._reloading:
            await self._undo.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """What is to be done before the end."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _remember(self, parts: Parts) -> None:
        """Who was known before: a start needs no bootstrap that lives."""
        path = None if self._options.ephemeral else state_path(encode_key(self.own_key), "nodes")
        known = KnownNodes(path, self._network.namespace)
        self.dispatch(await asyncio.to_thread(known.load))
        keeper = asyncio.ensure_future(known.keep(parts.node.memory))
        self._undo.callback(lambda: known.save(parts.node.memory()))
        self._undo.callback(keeper.cancel)

    async def _open_ipc(self) -> None:
        handlers = {verb: self._gated(handler) for verb, handler in Verbs(self).handlers().items()}
        server = IpcServer(socket_path(self._interface), handlers, partial(self._maker.remove_socket, "wh"))
        self._undo.push_async_callback(server.close)
        await server.start()

    def _gated(self, handler: Handler) -> Handler:
        """The socket is there before the node is, and still after."""

        async def serve(arguments: Any, progress: Progress) -> msgspec.Struct:
            await self._started.wait()
            if self._stopping.is_set():
                raise IpcError(f"the daemon on {self._interface} is stopping", code=Code.NO_DAEMON)
            return await handler(arguments, progress)

        return serve

    def _start_engine(self, parts: Parts) -> None:
        parts.datapath.start()
        parts.runner.start()
        self._undo.push_async_callback(parts.runner.stop)
        self._undo.callback(parts.runner.dispatch, Stopping())

    def _ready(self, warnings: list[str]) -> Ready:
        address = overlay.own_address(self._network, self.own_key)
        return Ready(
            interface=self._interface,
            has_interface=self._maker.has_interface,
            public_key=encode_key(self.own_key),
            address=str(address.ip) if address else None,
            listen_port=self.parts.listen_port,
            warnings=warnings,
        )

    # Changes around us.

    def tun_gone(self) -> None:
        log.warning("the interface %s was deleted; stopping", self._interface)
        self.request_stop()

    def woke(self) -> None:
        log.info("this machine has slept; finding out where it is now")
        self.parts.uplinks.forget()
        self.dispatch(Woke())
        self.parts.mapper.restart()

    def leave_out_ipv6(self, command: LeaveOutIpv6) -> None:
        self._without_ipv6 = command.members
        self._spawn(self._change_names())

    async def _change_names(self) -> None:
        async with self._reloading:
            if not self._stopping.is_set():
                await self.parts.host.change_names(self._plan(self._network))

    def _plan(self, network: Network) -> overlay.OverlayPlan:
        return overlay.plan_overlay(network, self.own_key, self._without_ipv6)

    # What the verbs ask for.

    def dispatch(self, *events: Event) -> None:
        self.parts.runner.dispatch(*events)

    def ask(self, make_event: Callable[[int], Event]) -> AsyncGenerator[Notify, None]:
        return self.parts.runner.ask(make_event)

    def status(self) -> Status:
        parts = self.parts
        facts = Facts(
            interface=self._interface,
            has_interface=self._maker.has_interface,
            device=parts.links.name,
            listen_port=parts.listen_port,
            version=_version(),
            pid=os.getpid(),
            started_unix=self._started_unix,
            config_path=self._options.config_path,
            namespace_pid=self._maker.namespace.pid,
            privileges=parts.privileges,
        )
        snapshot = Snapshot(
            network=self._network,
            node=parts.node.snapshot(),
            traffic={peer.public_key: peer for peer in parts.datapath.peers()},
            data=parts.datapath.counters(),
            control=parts.runner.counters(),
            check_words=self._membership.check_words,
            warnings=(*parts.keeper.warnings(), *self.clock_warnings()),
            unresolved=parts.runner.unresolved,
        )
        return describe(facts, snapshot)

    def clock_warnings(self) -> tuple[SystemSetupError, ...]:
        return clock_warnings(self._network, self.parts.node.clocks(read_clocks()))

    def netcheck(self) -> NetCheck:
        parts = self.parts
        return check_network(
            self._interface,
            parts.listen_port,
            self._network,
            self.own_key,
            parts.node.snapshot().peers,
            parts.node.surroundings(),
            parts.mapper.report(),
            time.monotonic(),
        )

    def health(self) -> Health:
        return check_health(
            self._interface,
            self._network,
            self.parts.node.snapshot(),
            isolated=self._maker.namespace.pid is not None,
            interface_up=self._maker.has_interface and is_up(self.parts.links.name, self._maker.namespace),
            clocks=self.parts.node.clocks(read_clocks()),
        )

    async def reopen_log(self) -> None:
        """What was the log may have been moved away. Raises SystemSetupError."""
        descriptor = await self._maker.helper.open_log()
        for standard in (STDOUT, STDERR):
            os.dup2(descriptor, standard)
        os.close(descriptor)

    async def reload(self) -> Reloaded:
        """Read the network file again. Raises ConfigError or SystemSetupError, with nothing changed."""
        path = self._options.config_path
        if path is None:
            raise ConfigError("there is no network file to read again", code=Code.FILE_UNREADABLE)
        async with self._reloading:
            data = await self._maker.helper.read_network_file(parser.MAX_FILE_SIZE + 1)
            return await self._adopt(parser.decode(data, path=path))

    async def adopt(self, network: Network) -> Reloaded:
        """To a network that no file holds. Raises as reload() does."""
        async with self._reloading:
            return await self._adopt(network)

    async def edit_file(self, edit: FileEdit) -> None:
        """Change the network file. Raises ConfigError, SystemSetupError."""
        await self._maker.helper.edit(edit)

    async def _adopt(self, network: Network) -> Reloaded:
        require_reloadable(self._network, network)
        for warning in await self.parts.host.change(self._plan(network)):
            log.warning("%s", warning)
        before, self._network = self._network, network
        self._load_network()
        return _difference(before, network)

    # Claims of aliases.

    def bind(self, command: BindAlias) -> None:
        self._spawn(self._bind(command))

    async def _bind(self, command: BindAlias) -> None:
        status = AuthStatus.FAILED
        try:
            status = await self._membership.bind(command.alias, command.claimant, command.check_words)
        finally:
            self.dispatch(AliasBound(command.alias, command.claimant, status))

    async def invite(self, name: str, expires_s: int | None) -> Invitation:
        return await self._membership.invite(name, expires_s, self.parts.node.snapshot())

    def check_words(self, member: Key) -> tuple[str, ...]:
        """Of a member that came in by an alias."""
        return self._membership.check_words(member)

    @property
    def local_addresses(self) -> tuple[Address, ...]:
        """Of this host, with our port."""
        return self._surroundings.addresses if self._surroundings is not None else ()

    async def revoke(self, key: Key) -> None:
        await self._membership.revoke(key)

    async def claim(
        self,
        server: Key,
        alias: SecretKey,
        endpoints: Sequence[Address] = (),
        relays: Sequence[Contact] = (),
    ) -> Mapping[str, Any]:
        """Claim an alias at another node, which may be at these endpoints, or reached by these relays; the
        secret is closed at the end. Returns the body of the engine's notice."""
        request = partial(
            ClaimRequested,
            peer=server,
            alias=alias.public_key,
            endpoints=tuple(endpoints),
            relays=tuple(relays),
        )
        self.parts.proofs.hold(alias)
        try:
            async with aclosing(self.ask(request)) as notices:
                async for notice in notices:
                    if notice.final:
                        return notice.body
        finally:
            self.parts.proofs.drop(alias)
        raise RuntimeError("the engine gave no result")

    def _load_network(self) -> None:
        self.parts.sessions.set_exempt_keys(peer.key for peer in self._network.peers)
        self.dispatch(NetworkLoaded(self._network))


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # 10 ms that a start need not take

    try:
        return version("wirehub")
    except PackageNotFoundError:  # run from its sources
        return "unknown"


def _difference(before: Network, after: Network) -> Reloaded:
    old = {peer.key: before.peer(peer.key) for peer in before.peers}
    new = {peer.key: after.peer(peer.key) for peer in after.peers}
    was, now = NameTable(before), NameTable(after)
    return Reloaded(
        added=[now.label(key) for key in new if key not in old],
        removed=[was.label(key) for key in old if key not in new],
        changed=[now.label(key) for key in new if key in old and new[key] != old[key]],
    )
