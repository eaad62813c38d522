"""The engine's commands, carried out with the data plane, the control channel and sockets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, assert_never

from wh.engine.commands import (
    BindAlias,
    CloseRelay,
    Knock,
    LeaveOutIpv6,
    LimitRelay,
    MoveRelay,
    Notify,
    OpenRelay,
    RememberAddresses,
    Reply,
    Send,
    SetDataPaths,
    SetRelayLimits,
)
from wh.engine.events import AliasBound, Event, Instant, Key, Path
from wh.net.control import KNOCK_HEADER, ControlChannel, Transmit
from wh.net.punch_sockets import PunchSockets
from wh.net.tcp.bridge import TcpBridge
from wh.node.executor import RelayChange
from wh.wire.messages import AuthStatus
from whcore import datapath as core
from whcore.errors import SystemFailure

NS = 10**9


class Driver(Protocol):
    """Who has the event loop (wh.net.runner.Runner)."""

    def resolve(self, host: str, port: int) -> None:
        """NameResolved follows."""

    def notify(self, notice: Notify) -> None:
        """Tell whoever asked."""


@dataclass(frozen=True)
class Callbacks:
    """What the rest of the daemon is asked and told. bind sees to it that AliasBound follows; without, no
    claim can be written down."""

    tun_gone: Callable[[], None]
    woke: Callable[[], None]
    bind: Callable[[BindAlias], None] | None = None
    send_beacon: Callable[[], None] = lambda: None
    learnt: Callable[[RememberAddresses], None] = lambda command: None
    leave_out_ipv6: Callable[[LeaveOutIpv6], None] = lambda command: None


class Execution:
    """An Executor (wh.node.executor). direct_only: user data takes no relay."""

    def __init__(
        self,
        datapath: core.Datapath,
        channel: ControlChannel,
        punch_sockets: PunchSockets,
        tcp: TcpBridge,
        driver: Driver,
        callbacks: Callbacks,
        *,
        direct_only: bool,
    ) -> None:
        self._datapath = datapath
        self._channel = channel
        self._punch_sockets = punch_sockets
        self._tcp = tcp
        self._bind = callbacks.bind
        self._direct_only = direct_only
        self.reset_session = channel.reset
        self.admit_channel = channel.admit_channel
        self.dismiss_channel = channel.dismiss_channel
        self.open_socket = punch_sockets.open
        self.connect_tcp = tcp.connect
        self.disconnect_tcp = tcp.disconnect
        self.send_beacon = callbacks.send_beacon
        self.resolve_name = driver.resolve
        self.notify = driver.notify
        self.remember_addresses = callbacks.learnt
        self.leave_out_ipv6 = callbacks.leave_out_ipv6

    # Control

    def send(self, command: Send, now: Instant) -> list[Event]:
        return self._channel.send(command, now)

    def reply(self, command: Reply, now: Instant) -> None:
        self._channel.reply(command, now)

    def knock(self, command: Knock) -> None:
        self._datapath.send_control(command.socket, command.to, KNOCK_HEADER + command.nonce)

    def bind_alias(self, command: BindAlias) -> list[Event]:
        if self._bind is None:
            return [AliasBound(command.alias, command.claimant, AuthStatus.FAILED)]
        self._bind(command)
        return []

    # Paths of user data

    def set_data_paths(self, command: SetDataPaths) -> None:
        if not self._datapath.has_peer(command.peer):  # the engine also keeps paths to peers without traffic
            return
        routes = [route for route in command.routes if not (self._direct_only and route.path.channel)]
        self._datapath.set_paths(
            command.peer,
            [(*path, route.mtu) for route in routes if (path := self._tcp.to_data_plane(route.path))],
            mode=command.mode,
            silence_ns=int(command.silence_s * NS),
        )
        self._datapath.set_keepalive(command.peer, command.keepalive_s)

    def clear_silence(self, peer: Key) -> None:
        if self._datapath.has_peer(peer):
            self._datapath.clear_silence(peer)

    # Relaying for others

    def open_relay(self, command: OpenRelay) -> tuple[int, int] | None:
        opener, target = map(self._tcp.to_data_plane, (command.opener, command.target))
        if opener is None or target is None:
            return None
        try:
            return self._datapath.relay_open(
                (opener.socket, opener.remote),
                (target.socket, target.remote),
                rate=command.rate,
                burst=command.burst,
                quota=command.quota,
                trusted=command.trusted,
            )
        except (SystemFailure, ValueError):  # every channel is taken; a socket has gone meanwhile
            return None

    def change_relay(self, command: RelayChange) -> None:
        match command:
            case MoveRelay(leg, path):
                self._move_relay(leg, path)
            case LimitRelay(leg, rate, burst, trusted):
                with suppress(KeyError):
                    self._datapath.relay_limit_channel(leg, rate=rate, burst=burst, trusted=trusted)
            case CloseRelay(leg):
                with suppress(KeyError):
                    self._datapath.relay_close(leg)
            case SetRelayLimits(rate, burst, day_quota):
                self._datapath.relay_limit(rate=rate, burst=burst, day_quota=day_quota)
            case _:
                assert_never(command)

    def _move_relay(self, leg: int, path: Path) -> None:
        client = self._tcp.to_data_plane(path)
        with suppress(KeyError, ValueError):
            if client is not None:
                self._datapath.relay_move(leg, (client.socket, client.remote))

    # Sockets

    def close_socket(self, socket: int) -> None:
        if socket in self._punch_sockets:
            self._punch_sockets.close(socket)
        else:
            with suppress(ValueError):
                self._datapath.remove_socket(socket)

    def adopt_socket(self, socket: int) -> int | None:
        udp = self._punch_sockets.take(socket)
        if udp is None:
            return None
        try:
            adopted = self._datapath.add_socket(udp.fileno())
        except (SystemFailure, ValueError):  # the table is full
            udp.close()
            return None
        udp.detach()
        return adopted


def transmitter(datapath: core.Datapath, punch_sockets: PunchSockets, tcp: TcpBridge) -> Transmit:
    """Datagrams of the control channel, out of whichever socket their path has."""

    def transmit(path: Path, datagram: bytes, ttl: int, source: bytes, whole: bool) -> bool:
        if path.socket in punch_sockets:
            return punch_sockets.send(path.socket, path.remote, datagram, ttl)
        known = tcp.to_data_plane(path)
        if known is None:
            return False
        return datapath.send_control(known.socket, known.remote, datagram, ttl, source=source, whole=whole)

    return transmit
