"""Commands, carried out: the one place that knows which they are, for the runner and for the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, assert_never

from wh.engine.commands import (
    AdmitChannel,
    AdoptSocket,
    BindAlias,
    ClearSilence,
    CloseRelay,
    CloseSocket,
    Command,
    ConnectTcp,
    DisconnectTcp,
    DismissChannel,
    Knock,
    LeaveOutIpv6,
    LimitRelay,
    MoveRelay,
    Notify,
    OpenRelay,
    OpenSocket,
    RememberAddresses,
    Reply,
    ResetSession,
    ResolveName,
    Send,
    SendBeacon,
    SetDataPaths,
    SetRelayLimits,
)
from wh.engine.events import Event, Instant, Key, Path, RelayOpened, SocketAdopted, SocketOpened
from wh.wire.address import Address

RelayChange = MoveRelay | LimitRelay | CloseRelay | SetRelayLimits

Silent = (
    Knock
    | ResetSession
    | SetDataPaths
    | ClearSilence
    | AdmitChannel
    | DismissChannel
    | RelayChange
    | CloseSocket
    | ConnectTcp
    | DisconnectTcp
    | SendBeacon
    | ResolveName
    | RememberAddresses
    | LeaveOutIpv6
    | Notify
)
"""What no event follows at once."""


class Executor(Protocol):
    """What commands are carried out with; wh.engine.commands says what each of them means. What is returned
    are events that follow at once; others come when it is their time."""

    def send(self, command: Send, now: Instant) -> Sequence[Event]: ...

    def reply(self, command: Reply, now: Instant) -> None: ...

    def knock(self, command: Knock) -> None: ...

    def reset_session(self, peer: Key) -> None: ...

    def set_data_paths(self, command: SetDataPaths) -> None: ...

    def clear_silence(self, peer: Key) -> None: ...

    def admit_channel(self, path: Path) -> None: ...

    def dismiss_channel(self, path: Path) -> None: ...

    def open_relay(self, command: OpenRelay) -> tuple[int, int] | None:
        """The ids of both legs; None where there is no room."""

    def change_relay(self, command: RelayChange) -> None:
        """A channel that is gone by now needs neither move nor limits nor close."""

    def open_socket(self, family: int) -> tuple[int, int] | None:
        """Its id and port; None where the system refuses."""

    def close_socket(self, socket: int) -> None: ...

    def adopt_socket(self, socket: int) -> int | None:
        """Its id in the data plane; None where that has no room."""

    def bind_alias(self, command: BindAlias) -> Sequence[Event]: ...

    def connect_tcp(self, address: Address, ports: tuple[int, ...]) -> None: ...

    def disconnect_tcp(self, address: Address) -> None: ...

    def send_beacon(self) -> None: ...

    def resolve_name(self, host: str, port: int) -> None: ...

    def remember_addresses(self, command: RememberAddresses) -> None: ...

    def leave_out_ipv6(self, command: LeaveOutIpv6) -> None: ...

    def notify(self, command: Notify) -> None: ...


def carry_out(command: Command, executor: Executor, now: Instant) -> Sequence[Event]:
    """One command; the events that follow at once."""
    match command:
        case Send():
            return executor.send(command, now)
        case Reply():
            executor.reply(command, now)
            return ()
        case OpenRelay(request):
            return [RelayOpened(request, executor.open_relay(command))]
        case OpenSocket(request, family):
            return [SocketOpened(request, *(executor.open_socket(family) or (None, 0)))]
        case AdoptSocket(socket):
            return [SocketAdopted(socket, executor.adopt_socket(socket))]
        case BindAlias():
            return executor.bind_alias(command)
        case _:
            _carry_out_silently(command, executor)
            return ()


def _carry_out_silently(command: Silent, executor: Executor) -> None:
    match command:
        case Knock():
            executor.knock(command)
        case ResetSession(peer):
            executor.reset_session(peer)
        case SetDataPaths():
            executor.set_data_paths(command)
        case ClearSilence(peer):
            executor.clear_silence(peer)
        case AdmitChannel(path):
            executor.admit_channel(path)
        case DismissChannel(path):
            executor.dismiss_channel(path)
        case MoveRelay() | LimitRelay() | CloseRelay() | SetRelayLimits():
            executor.change_relay(command)
        case CloseSocket(socket):
            executor.close_socket(socket)
        case ConnectTcp(address, ports):
            executor.connect_tcp(address, ports)
        case DisconnectTcp(address):
            executor.disconnect_tcp(address)
        case SendBeacon():
            executor.send_beacon()
        case ResolveName(host, port):
            executor.resolve_name(host, port)
        case RememberAddresses():
            executor.remember_addresses(command)
        case LeaveOutIpv6():
            executor.leave_out_ipv6(command)
        case Notify():
            executor.notify(command)
        case _:
            assert_never(command)
