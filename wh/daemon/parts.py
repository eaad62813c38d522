"""What a running node is made of, made in order: all that takes privileges first, then the process gives them
up, then the rest. Everything made is unmade in the opposite order, however far that came."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from wh.config.model import Network
from wh.config.reloading import needs_interface
from wh.daemon import overlay
from wh.daemon.authority import Authority, own_hands
from wh.daemon.host import Host
from wh.daemon.keeper import Keeper
from wh.daemon.persistence.key_lock import KeyLock
from wh.daemon.persistence.state import SavedState, StateFile, state_path
from wh.engine.commands import BindAlias, LeaveOutIpv6
from wh.engine.events import AddressesRemembered, BeaconHeard, Event, MappingsChanged, OverlayIpv6Changed
from wh.errors import SystemSetupError, UserError
from wh.helper.client import Helper
from wh.helper.requests import Charge
from wh.ipc.paths import run_dir
from wh.ipc.schema import Privileges
from wh.naming.hosts_block import HostsBlock
from wh.net.alias_proofs import AliasProofs
from wh.net.beacons import Beacons
from wh.net.control import ControlChannel
from wh.net.device_sockets import DeviceSockets
from wh.net.execution import Callbacks, transmitter
from wh.net.links.host import host_gateways
from wh.net.links.namespaces import HostNamespace, Links, Namespace
from wh.net.links.source_routes import SourceRoutes
from wh.net.links.tun_watch import LOOK_S, MtuFollower
from wh.net.mapping.port_mapper import PortMapper
from wh.net.punch_sockets import PunchSockets
from wh.net.runner import Runner
from wh.net.tcp.bridge import TcpBridge
from wh.net.uplinks import Uplinks
from wh.net.wireguard.uapi_server import OverlayControl, UapiServer, open_uapi_socket
from wh.node.node import Node
from wh.wire.address import ip_of
from wh.wire.fields import NONCE_LEN
from wh.wire.messages import Ping, PingWant
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


class Owner(Protocol):
    """Whose parts they are: wh.daemon.running_node.RunningNode."""

    def dispatch(self, *events: Event) -> None: ...

    def tun_gone(self) -> None:
        """Somebody has deleted the interface."""

    def woke(self) -> None:
        """This machine has slept."""

    def bind(self, command: BindAlias) -> None:
        """AliasBound follows."""

    def leave_out_ipv6(self, command: LeaveOutIpv6) -> None:
        """Of names."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What privileges are needed for. wg: for `wg` to look at the interface."""

    links: Links
    datapath: Datapath
    sockets: DeviceSockets
    tcp: TcpBridge
    wg: socket.socket | None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a started node is made of. privileges: what the process has kept; None: it has given up none."""

    host: Host
    keeper: Keeper
    links: Links
    uplinks: Uplinks
    datapath: Datapath
    sessions: ControlSessions
    node: Node
    runner: Runner
    mapper: PortMapper
    proofs: AliasProofs
    sockets: Sockets
    listen_port: int
    privileges: Privileges | None
    remembered: AddressesRemembered


class PartsMaker:
    """make() once. interface, has_interface, namespace and helper are known before that. undo: what unmakes
    the parts."""

    def __init__(
        self, network: Network, secret_key: SecretKey, options: Options, undo: AsyncExitStack, owner: Owner
    ) -> None:
        self._network = network
        self._secret_key = secret_key
        self._options = options
        self._undo = undo
        self._owner = owner
        self._rng = random.SystemRandom()
        self.interface = options.interface or overlay.default_interface(secret_key.public_key)
        self.has_interface = needs_interface(network)
        self.namespace: Namespace = options.namespace or HostNamespace()
        self.helper = self._find_helper()

    def make(self) -> Parts:
        """Raises SystemSetupError."""
        key = None if self._options.ephemeral else encode_key(self._secret_key.public_key)
        state = StateFile(None if key is None else state_path(key))
        saved = self._load_state(state, key)
        opened = self._open(saved.listen_port)
        privileges = self._confine()
        port, datapath = opened.sockets.listen_port, opened.datapath
        state.remember_port(port)
        host = self._make_host(opened)
        sessions = self._make_sessions(saved.timestamp_ceiling_ns)
        datapath.set_last_timestamp(saved.timestamp_ceiling_ns)
        datapath.set_control_sieve(sessions.sieve)
        self._keep_timestamps(state, sessions, datapath)
        proofs = AliasProofs(self._secret_key, sessions)
        node = self._make_node(sessions, proofs)
        runner = self._make_runner(node, opened, sessions, proofs, state)
        mapper = self._make_mapper(state.mapping_seed(), port, runner)
        if opened.wg is not None:
            self._serve_wg(opened.wg, opened, host)
        return Parts(
            host,
            Keeper(host.restore, self.helper.find_managers),
            opened.links,
            Uplinks(datapath, runner.sources, SourceRoutes(lambda: opened.sockets.fwmark)),
            datapath,
            sessions,
            node,
            runner,
            mapper,
            proofs,
            opened.sockets.numbers(),
            port,
            privileges,
            AddressesRemembered(saved.addresses()),
        )

    async def remove_socket(self, which: Literal["wh", "wg"], inode: int) -> None:
        try:
            await self.helper.remove_socket(which, inode)
        except UserError as error:
            log.warning("%s", error)

    # Before the privileges are given up

    def _find_helper(self) -> Helper:
        if self._options.authority is not None:
            return self._options.authority.helper_for(self._network)
        hosts = self._options.hosts_path
        hosts_path = None if hosts is None else str(hosts)
        charge = Charge(self.interface, run_dir(), hosts_path, self._options.config_path)
        helper = own_hands(charge, self._network)
        self._undo.callback(helper.close)
        return helper

    def _load_state(self, state: StateFile, key: str | None) -> SavedState:
        """Of an earlier run, whose user it is. Raises SystemSetupError where another daemon has it now."""
        authority = self._options.authority
        if authority is not None:
            authority.prepare(key)
        with nullcontext() if authority is None else authority.acting():
            lock = KeyLock(None if key is None else state_path(key, "lock"))
            self._undo.callback(lock.close)
            return state.load()

    def _open(self, former_port: int) -> Opened:
        links = self.namespace.open_links(self.interface)
        self._undo.callback(links.close)
        datapath = self._make_datapath()
        sockets = DeviceSockets(datapath)
        self._open_sockets(sockets, former_port)
        tcp = TcpBridge(datapath)
        self._undo.callback(tcp.close)
        if self._network.listen_tcp is not None:
            tcp.listen(self._network.listen_tcp)
        return Opened(links, datapath, sockets, tcp, self._open_wg_socket())

    def _make_datapath(self) -> Datapath:
        """One TUN queue: packets of a flow stay in order whichever peer they came from."""
        log.info("packets are encrypted by %s", aead.engine())
        tun_fds = self.namespace.open_tun(self.interface) if self.has_interface else ()
        datapath = Datapath(self._secret_key, tun_fds=tun_fds, mtu=overlay.MTU)
        self._undo.callback(datapath.close)
        if tun_fds:
            read_mtu = partial(self.namespace.read_mtu, self.interface, tun_fds[0])
            follower = MtuFollower(tun_fds[0], datapath, overlay.MTU, read=read_mtu)
            watching = asyncio.ensure_future(_follow_mtu(follower))
            self._undo.callback(watching.cancel)
        return datapath

    def _open_sockets(self, sockets: DeviceSockets, former_port: int) -> None:
        """On the port that the command line says, else the one that the file tells others, else the one of
        the last run if it is free, else any."""
        port = self._options.listen_port
        own = self._network.peer(self._secret_key.public_key)
        if port is None and own is not None and own.endpoint is not None:
            port = own.endpoint.port
        if port is None and former_port:
            with suppress(SystemSetupError):
                sockets.open(former_port)
                return
        sockets.open(port or 0)

    def _open_wg_socket(self) -> socket.socket | None:
        """The network works without."""
        if not self.has_interface or not self._options.sockets or self._options.namespace is not None:
            return None
        try:
            return open_uapi_socket(self.interface)
        except SystemSetupError as error:
            log.warning("`wg` cannot be used on %s: %s", self.interface, error)
            return None

    def _confine(self) -> Privileges | None:
        """All that takes privileges is open; no thread has been started. Raises SystemSetupError."""
        authority = self._options.authority
        return None if authority is None else authority.confine(has_interface=self.has_interface)

    # After that

    def _make_host(self, opened: Opened) -> Host:
        hosts_path = self._options.hosts_path if self.has_interface else None
        host = Host(
            opened.datapath,
            opened.links,
            has_interface=self.has_interface,
            names=self.helper if hosts_path is not None else None,
            block=HostsBlock(hosts_path, self.interface) if hosts_path is not None else None,
            network_secret=_secret_of(self._network),
            ipv6_changed=lambda taken: self._owner.dispatch(OverlayIpv6Changed(taken)),
        )
        self._undo.push_async_callback(host.remove_names)
        return host

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

    def _make_node(self, sessions: ControlSessions, proofs: AliasProofs) -> Node:
        return Node(
            self._secret_key.public_key,
            rng=self._rng,
            sign=self._secret_key.sign,
            verify=verify,
            mode=self._options.mode,
            check_claim=proofs.check,
            handshake_hashes=sessions.handshake_hashes,
            beacons=self._options.lan,
            instance=int.from_bytes(self._rng.randbytes(8)),
        )

    def _make_runner(
        self, node: Node, opened: Opened, sessions: ControlSessions, proofs: AliasProofs, state: StateFile
    ) -> Runner:
        punch_sockets = PunchSockets()
        self._undo.callback(punch_sockets.close_all)
        channel = ControlChannel(
            sessions,
            transmitter(opened.datapath, punch_sockets, opened.tcp),
            lambda: Ping(0, PingWant.ECHO, 0, self._rng.randbytes(NONCE_LEN)),
            prove=proofs.prove,
            allow_loopback=_on_one_host(self._network),
        )
        return Runner(
            node,
            opened.datapath,
            channel,
            punch_sockets,
            opened.tcp,
            Callbacks(
                self._owner.tun_gone,
                self._owner.woke,
                self._owner.bind,
                self._make_beacons(opened.sockets.listen_port).send,
                lambda command: state.remember_addresses(command.addresses),
                self._owner.leave_out_ipv6,
            ),
            direct_only=self._options.direct_only,
            allow_loopback=_on_one_host(self._network),
        )

    def _make_beacons(self, listen_port: int) -> Beacons:
        """Silent and deaf where they are not asked for."""
        beacons = Beacons(
            self._secret_key.public_key,
            listen_port,
            lambda key, address: self._owner.dispatch(BeaconHeard(key, address)),
        )
        if self._options.lan:
            self._undo.callback(beacons.close)
            beacons.open()
        return beacons

    def _make_mapper(self, seed: bytes, listen_port: int, runner: Runner) -> PortMapper:
        tcp_port = self._network.listen_tcp
        mapper = PortMapper(
            host_gateways,
            lambda mappings: runner.dispatch(MappingsChanged(mappings)),
            [("udp", listen_port), *([("tcp", tcp_port)] if tcp_port is not None else [])],
            seed=seed,
            rng=random.SystemRandom(),
            workers=self.helper,
        )
        self._undo.push_async_callback(mapper.close)
        return mapper

    def _serve_wg(self, listener: socket.socket, opened: Opened, host: Host) -> None:
        control = OverlayControl(host.members)
        server = UapiServer(listener, opened.datapath, opened.sockets, control, lock=host.peers_lock)
        self._undo.push_async_callback(self._close_wg, server)
        server.start()

    async def _close_wg(self, server: UapiServer) -> None:
        await asyncio.to_thread(server.stop)
        if server.inode:
            await self.remove_socket("wg", server.inode)


def _on_one_host(network: Network) -> bool:
    """The file names a loopback endpoint: then loopback addresses are addresses like others."""
    addresses = (peer.endpoint.address for peer in network.peers if peer.endpoint is not None)
    return any(ip_of(address).is_loopback for address in addresses if address is not None)


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
