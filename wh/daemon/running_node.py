"""A running node: its parts made in order, and unmade in the opposite order however far that came."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from wh.config import parser
from wh.config.model import IPAddress, Network
from wh.config.reloading import needs_interface, require_reloadable
from wh.daemon import overlay
from wh.daemon.authority import Authority, own_hands
from wh.daemon.claim_log import ClaimLog
from wh.daemon.health import check_health
from wh.daemon.host import Host
from wh.daemon.inspection import Facts, Snapshot, describe
from wh.daemon.key_lock import KeyLock
from wh.daemon.membership import Membership
from wh.daemon.netcheck import check_network
from wh.daemon.state import SavedState, StateFile, state_path
from wh.daemon.verbs import Verbs
from wh.engine import events
from wh.engine.commands import BindAlias, Notify
from wh.engine.events import (
    AliasBound,
    AliasesClaimed,
    BeaconHeard,
    ClaimRequested,
    Event,
    Key,
    LocalAddresses,
    MappingsChanged,
    NetworkLoaded,
    Stopping,
    Woke,
)
from wh.errors import Code, ConfigError, IpcError, SystemSetupError, UserError
from wh.helper.client import Helper
from wh.helper.requests import Charge, FileEdit
from wh.ipc.paths import run_dir, socket_path
from wh.ipc.schema import Health, NetCheck, Privileges, Ready, Reloaded, Status
from wh.ipc.server import Handler, IpcServer, Progress
from wh.naming.table import NameTable
from wh.net.alias_proofs import AliasProofs
from wh.net.beacons import Beacons
from wh.net.control import ControlChannel, Transmit
from wh.net.device_sockets import DeviceSockets
from wh.net.links.host import host_gateways
from wh.net.links.link_monitor import LinkMonitor, open_change_socket
from wh.net.links.namespaces import HostNamespace, Links, Namespace
from wh.net.links.tun import check_interface_name
from wh.net.links.tun_watch import LOOK_S, MtuFollower, is_up
from wh.net.mapping.port_mapper import PortMapper
from wh.net.punch_sockets import PunchSockets
from wh.net.runner import Runner
from wh.net.tcp.bridge import TcpBridge
from wh.net.uapi_server import OverlayControl, UapiServer, open_uapi_socket
from wh.node.node import Node
from wh.trust.invitation import Contact, Invitation
from wh.wire.address import Address, ip_of, pack
from wh.wire.fields import NONCE_LEN
from wh.wire.messages import AuthStatus, Ping, PingWant
from whcore import aead
from whcore.datapath import Datapath
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey, decode_key, encode_key, verify

log = logging.getLogger(__name__)

STATE_CHECK_S = 30.0

Sockets = tuple[tuple[int, int], ...]
"""Id in the data plane, and family: 4 or 6."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `wh up` was asked for. interface, listen_port: None for the default. config_path: for reloads.
    hosts_path: None leaves the hosts file alone. namespace: where the interface is made; None: on the host.
    sockets: whether `wh` and `wg` may talk to this node; not to one that is part of another program. lan:
    whether it announces itself in its LANs, and listens to others there. direct_only: relays carry none of
    our data; they may still help to find direct paths. port_mapping: whether gateways are asked for ports.
    authority: what the process has to give up; None: it is another program's, which keeps what it has."""

    config_path: str | None
    interface: str | None
    listen_port: int | None
    mode: str
    hosts_path: Path | None
    ephemeral: bool
    namespace: Namespace | None = None
    sockets: bool = True
    lan: bool = False
    direct_only: bool = False
    port_mapping: bool = True
    authority: Authority | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a started node is made of."""

    host: Host
    links: Links
    datapath: Datapath
    sessions: ControlSessions
    node: Node
    runner: Runner
    mapper: PortMapper
    proofs: AliasProofs
    sockets: Sockets


class RunningNode:
    """start(), then wait_for_stop(), then close(), also where start() failed."""

    def __init__(self, network: Network, secret_key: SecretKey, options: Options) -> None:
        self._undo = AsyncExitStack()
        self._network = network
        self._secret_key = secret_key
        self._options = options
        self._interface = options.interface or overlay.default_interface(secret_key.public_key)
        self._has_interface = needs_interface(network)
        self._namespace: Namespace = options.namespace or HostNamespace()
        self._listen_port = 0
        self._started_unix = time.time()
        self._parts: Parts | None = None
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._local: LocalAddresses | None = None
        self._claims: set[asyncio.Task[None]] = set()  # being written down
        claim_log = ClaimLog(None if options.ephemeral else state_path(encode_key(self.own_key), "claims"))
        self._membership = Membership(self, claim_log, has_file=options.config_path is not None)
        self._helper = self._find_helper()
        self._privileges: Privileges | None = None

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
        self._parts = parts = self._make_parts()
        local = asyncio.ensure_future(parts.links.local_addresses())
        self._undo.callback(local.cancel)
        warnings = await parts.host.set_up(overlay.plan_overlay(self._network, self.own_key))
        self._start_engine(parts)
        self.dispatch(AliasesClaimed(await asyncio.to_thread(self._membership.former_claims)))
        self._tell_local_addresses(await local)
        self._load_network()
        self._watch_addresses()
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
        await asyncio.gather(*self._claims, return_exceptions=True)
        async with self._reloading:
            await self._undo.aclose()

    async def _open_ipc(self) -> None:
        handlers = {verb: self._gated(handler) for verb, handler in Verbs(self).handlers().items()}
        server = IpcServer(socket_path(self._interface), handlers, partial(self._remove_socket, "wh"))
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

    # Parts.

    def _make_parts(self) -> Parts:
        rng = random.SystemRandom()
        state = StateFile(None if self._options.ephemeral else state_path(encode_key(self.own_key)))
        saved = self._load_state(state)
        links = self._namespace.open_links(self._interface)
        self._undo.callback(links.close)
        datapath = self._make_datapath()
        sockets = DeviceSockets(datapath)
        self._open_sockets(sockets, saved.listen_port)
        self._listen_port = sockets.listen_port
        tcp = TcpBridge(datapath)
        self._undo.callback(tcp.close)
        if self._network.listen_tcp is not None:
            tcp.listen(self._network.listen_tcp)
        wg_socket = self._open_wg_socket()
        self._confine()
        state.remember_port(self._listen_port)
        host = Host(
            datapath,
            links,
            has_interface=self._has_interface,
            names=self._helper if self._has_interface and self._options.hosts_path is not None else None,
            network_secret=_secret_of(self._network),
        )
        self._undo.push_async_callback(host.remove_names)
        sessions = self._make_sessions(saved.timestamp_ceiling_ns)
        datapath.set_last_timestamp(saved.timestamp_ceiling_ns)
        datapath.set_control_sieve(sessions.sieve)
        self._keep_timestamps(state, sessions, datapath)
        punch_sockets = PunchSockets()
        self._undo.callback(punch_sockets.close_all)
        proofs = AliasProofs(self._secret_key, sessions)
        channel = ControlChannel(
            sessions,
            _transmitter(datapath, punch_sockets, tcp),
            lambda: Ping(0, PingWant.ECHO, 0, rng.randbytes(NONCE_LEN)),
            prove=proofs.prove,
            allow_loopback=_on_one_host(self._network),
        )
        node = Node(
            self.own_key,
            rng=rng,
            sign=self._secret_key.sign,
            verify=verify,
            mode=self._options.mode,
            check_claim=proofs.check,
            handshake_hashes=sessions.handshake_hashes,
            beacons=self._options.lan,
        )
        beacons = Beacons(
            self.own_key, self._listen_port, lambda key, address: self.dispatch(BeaconHeard(key, address))
        )
        runner = Runner(
            node,
            datapath,
            channel,
            punch_sockets,
            tcp,
            on_tun_gone=self._on_tun_gone,
            on_woke=self._on_woke,
            on_bind=self._on_bind,
            send_beacon=beacons.send,
            direct_only=self._options.direct_only,
            allow_loopback=_on_one_host(self._network),
        )
        if self._options.lan:
            self._undo.callback(beacons.close)
            beacons.open()
        mapper = self._make_mapper(state.mapping_seed(), runner)
        if wg_socket is not None:
            self._serve_wg(wg_socket, datapath, sockets, host)
        return Parts(host, links, datapath, sessions, node, runner, mapper, proofs, sockets.numbers())

    def _make_mapper(self, seed: bytes, runner: Runner) -> PortMapper:
        tcp_port = self._network.listen_tcp
        mapper = PortMapper(
            host_gateways,
            lambda mappings: runner.dispatch(MappingsChanged(mappings)),
            [("udp", self._listen_port), *([("tcp", tcp_port)] if tcp_port is not None else [])],
            seed=seed,
            rng=random.SystemRandom(),
            workers=self._helper,
        )
        self._undo.push_async_callback(mapper.close)
        return mapper

    def _make_datapath(self) -> Datapath:
        """One TUN queue: packets of a flow stay in order whichever peer they came from."""
        log.info("packets are encrypted by %s", aead.engine())
        tun_fds = self._namespace.open_tun(self._interface) if self._has_interface else ()
        datapath = Datapath(self._secret_key, tun_fds=tun_fds, mtu=overlay.MTU)
        self._undo.callback(datapath.close)
        if tun_fds:
            read_mtu = partial(self._namespace.read_mtu, self._interface, tun_fds[0])
            follower = MtuFollower(tun_fds[0], datapath, overlay.MTU, read=read_mtu)
            watching = asyncio.ensure_future(_follow_mtu(follower))
            self._undo.callback(watching.cancel)
        return datapath

    def _open_wg_socket(self) -> socket.socket | None:
        """For `wg` to look at the interface. The network works without."""
        if not self._has_interface or not self._options.sockets or self._options.namespace is not None:
            return None
        try:
            return open_uapi_socket(self._interface)
        except SystemSetupError as error:
            log.warning("`wg` cannot be used on %s: %s", self._interface, error)
            return None

    def _serve_wg(
        self, listener: socket.socket, datapath: Datapath, sockets: DeviceSockets, host: Host
    ) -> None:
        server = UapiServer(listener, datapath, sockets, OverlayControl(host.members), lock=host.peers_lock)
        self._undo.push_async_callback(self._close_wg, server)
        server.start()

    async def _close_wg(self, server: UapiServer) -> None:
        await asyncio.to_thread(server.stop)
        if server.inode:
            await self._remove_socket("wg", server.inode)

    def _confine(self) -> None:
        """All that takes privileges is open; no thread has been started. Raises SystemSetupError."""
        if self._options.authority is not None:
            self._privileges = self._options.authority.confine(has_interface=self._has_interface)

    def _load_state(self, state: StateFile) -> SavedState:
        """Of an earlier run, whose user it is. Raises SystemSetupError where another daemon has it now."""
        authority = self._options.authority
        key = None if self._options.ephemeral else encode_key(self.own_key)
        if authority is not None:
            authority.prepare(key)
        with nullcontext() if authority is None else authority.acting():
            lock = KeyLock(None if key is None else state_path(key, "lock"))
            self._undo.callback(lock.close)
            return state.load()

    def _find_helper(self) -> Helper:
        if self._options.authority is not None:
            return self._options.authority.helper_for(self._network)
        hosts = self._options.hosts_path
        hosts_path = None if hosts is None else str(hosts)
        charge = Charge(self._interface, run_dir(), hosts_path, self._options.config_path)
        helper = own_hands(charge, self._network)
        self._undo.callback(helper.close)
        return helper

    async def _remove_socket(self, which: Literal["wh", "wg"], inode: int) -> None:
        try:
            await self._helper.remove_socket(which, inode)
        except UserError as error:
            log.warning("%s", error)

    def _make_sessions(self, last_timestamp_ns: int) -> ControlSessions:
        sessions = ControlSessions(
            self._secret_key,
            self._network.namespace.encode(),
            network_secret=_secret_of(self._network),
            workbit=self._network.workbit,
            last_timestamp_ns=last_timestamp_ns,
        )
        self._undo.callback(sessions.close)
        return sessions

    def _keep_timestamps(self, state: StateFile, sessions: ControlSessions, datapath: Datapath) -> None:
        """Whatever the clock says after a restart, peers are told later ones, in both kinds of handshake."""

        def last() -> int:
            return max(sessions.last_timestamp_ns, datapath.last_timestamp_ns)

        self._undo.callback(lambda: state.write_last(last()))
        state.keep_ahead(last(), time.time_ns())
        keeper = asyncio.ensure_future(_keep_state(state, last))
        self._undo.callback(keeper.cancel)

    def _open_sockets(self, sockets: DeviceSockets, former_port: int) -> None:
        """On the port that the command line says, else the one that the file tells others, else the one of
        the last run if it is free, else any."""
        port = self._options.listen_port
        own = self._network.peer(self.own_key)
        if port is None and own is not None and own.endpoint is not None:
            port = own.endpoint.port
        if port is None and former_port:
            with suppress(SystemSetupError):
                sockets.open(former_port)
                return
        sockets.open(port or 0)

    def _start_engine(self, parts: Parts) -> None:
        parts.datapath.start()
        parts.runner.start()
        self._undo.push_async_callback(parts.runner.stop)
        self._undo.callback(parts.runner.dispatch, Stopping())

    def _ready(self, warnings: list[str]) -> Ready:
        address = overlay.own_address(self._network, self.own_key)
        return Ready(
            interface=self._interface,
            has_interface=self._has_interface,
            public_key=encode_key(self.own_key),
            address=str(address.ip) if address else None,
            listen_port=self._listen_port,
            warnings=warnings,
        )

    # Changes around us.

    def _on_tun_gone(self) -> None:
        log.warning("the interface %s was deleted; stopping", self._interface)
        self.request_stop()

    def _on_woke(self) -> None:
        log.info("this machine has slept; finding out where it is now")
        self.parts.runner.forget_sources()
        self.dispatch(Woke())
        self.parts.mapper.restart()

    def _watch_addresses(self) -> None:
        changed = asyncio.Event()
        try:
            notices = open_change_socket()
        except OSError as error:
            log.warning("changes of this host's addresses will not be noticed: %s", error)
            return
        monitor = LinkMonitor(asyncio.get_running_loop(), notices, changed.set)
        self._undo.callback(monitor.close)
        task = asyncio.ensure_future(self._follow_addresses(changed))
        self._undo.callback(task.cancel)

    async def _follow_addresses(self, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            changed.clear()
            self.parts.mapper.network_changed()
            try:
                addresses = await self.parts.links.local_addresses()
            except SystemSetupError as error:
                log.warning("cannot read the addresses of this host: %s", error)
            else:
                self.parts.runner.forget_sources()
                self._tell_local_addresses(addresses)

    def _tell_local_addresses(self, addresses: Sequence[IPAddress]) -> None:
        """An engine that hears of addresses measures its NAT again, so only of new ones."""
        packed = tuple(sorted(pack(address, self._listen_port) for address in addresses))
        local = LocalAddresses(self.parts.sockets, packed)
        if local != self._local:
            self._local = local
            self.dispatch(local)

    # What the verbs ask for.

    def dispatch(self, *events: Event) -> None:
        self.parts.runner.dispatch(*events)

    def ask(self, make_event: Callable[[int], Event]) -> AsyncGenerator[Notify, None]:
        return self.parts.runner.ask(make_event)

    def status(self) -> Status:
        parts = self.parts
        facts = Facts(
            interface=self._interface,
            has_interface=self._has_interface,
            listen_port=self._listen_port,
            version=_version(),
            pid=os.getpid(),
            started_unix=self._started_unix,
            config_path=self._options.config_path,
            namespace_pid=self._namespace.pid,
            privileges=self._privileges,
        )
        snapshot = Snapshot(
            network=self._network,
            node=parts.node.snapshot(),
            traffic={peer.public_key: peer for peer in parts.datapath.peers()},
            data=parts.datapath.counters(),
            control=parts.runner.counters(),
            check_words=self._membership.check_words,
            unresolved=parts.runner.unresolved,
        )
        return describe(facts, snapshot)

    def netcheck(self) -> NetCheck:
        parts = self.parts
        return check_network(
            self._interface,
            self._listen_port,
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
            isolated=self._namespace.pid is not None,
            interface_up=self._has_interface and is_up(self._interface, self._namespace),
        )

    async def reload(self) -> Reloaded:
        """Read the network file again. Raises ConfigError or SystemSetupError, with nothing changed."""
        path = self._options.config_path
        if path is None:
            raise ConfigError("there is no network file to read again", code=Code.FILE_UNREADABLE)
        async with self._reloading:
            data = await self._helper.read_network_file(parser.MAX_FILE_SIZE + 1)
            return await self._adopt(parser.decode(data, path=path))

    async def adopt(self, network: Network) -> Reloaded:
        """To a network that no file holds. Raises as reload() does."""
        async with self._reloading:
            return await self._adopt(network)

    async def edit_file(self, edit: FileEdit) -> None:
        """Change the network file. Raises ConfigError, SystemSetupError."""
        await self._helper.edit(edit)

    async def _adopt(self, network: Network) -> Reloaded:
        require_reloadable(self._network, network)
        for warning in await self.parts.host.change(overlay.plan_overlay(network, self.own_key)):
            log.warning("%s", warning)
        before, self._network = self._network, network
        self._load_network()
        return _difference(before, network)

    # Claims of aliases.

    def _on_bind(self, command: BindAlias) -> None:
        task = asyncio.ensure_future(self._bind(command))
        self._claims.add(task)
        task.add_done_callback(self._claims.discard)

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
        return self._local.addresses if self._local is not None else ()

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


def _on_one_host(network: Network) -> bool:
    """The file names a loopback endpoint: then loopback addresses are addresses like others."""
    addresses = (peer.endpoint.address for peer in network.peers if peer.endpoint is not None)
    return any(ip_of(address).is_loopback for address in addresses if address is not None)


def _transmitter(datapath: Datapath, punch_sockets: PunchSockets, tcp: TcpBridge) -> Transmit:
    def transmit(path: events.Path, datagram: bytes, ttl: int, source: bytes) -> bool:
        if path.socket in punch_sockets:
            return punch_sockets.send(path.socket, path.remote, datagram, ttl)
        known = tcp.to_data_plane(path)
        if known is None:
            return False
        return datapath.send_control(known.socket, known.remote, datagram, ttl, source=source)

    return transmit


def _secret_of(network: Network) -> bytes | None:
    return None if network.secret is None else decode_key(network.secret)


async def _keep_state(state: StateFile, last_timestamp_ns: Callable[[], int]) -> None:
    while True:
        await asyncio.sleep(STATE_CHECK_S)
        state.keep_ahead(last_timestamp_ns(), time.time_ns())


async def _follow_mtu(interface: MtuFollower) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        interface.look()


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
