"""What a node wants done, as values: the runner carries these out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from wh.engine.events import Key, Path, ReplyToken
from wh.wire.address import Address
from wh.wire.messages import Message


@dataclass(frozen=True, slots=True)
class Send:
    """A message to a peer: in its session (DATA) if there is one, else, for PING and FIND only, and unless
    in_session says no, in an INIT.

    While a handshake is in flight the runner keeps it (bounded, 1 s) and sends it once the session is up,
    except the very message that the INIT in flight carries: on a path where that INIT did not go yet the same
    INIT goes there too (the candidates of a peer are tried in parallel, and any may answer); on a path where
    it did, a new INIT is made. pad_to: plaintext size of an INIT or a DATA with PING or AUTH, so that the
    answer has room, or of a DATA with a PROBE, to try a path's MTU. ttl: hop limit of the datagram; 0: the
    system's."""

    peer: Key
    path: Path
    message: Message
    pad_to: int = 0
    ttl: int = 0
    in_session: bool = False  # it is not for a recorder who gets the peer's key later


@dataclass(frozen=True, slots=True)
class Reply:
    to: ReplyToken
    message: Message


@dataclass(frozen=True, slots=True)
class Knock:
    """One unauthenticated KNOCK datagram."""

    socket: int
    to: Address
    nonce: bytes


@dataclass(frozen=True, slots=True)
class ResetSession:
    """Forget the control session with a peer: the next Send makes a new INIT."""

    peer: Key


class PathMode(IntEnum):
    """How the data plane uses two paths of a peer; the values are those of whcore.datapath.PATHS_*."""

    PRIMARY = 0  # the first; the second too after a silence
    DUPLICATE = 1
    SPLIT = 2  # each inner flow on one of them


class Route(NamedTuple):
    """mtu: the largest IP datagram that passes, in bytes; 0: not known."""

    path: Path
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class SetDataPaths:
    """Where the data plane sends a peer's packets: at most two routes; none: nowhere. silence_s: in mode
    PRIMARY, how long the first may stay silent before the second is used too; 0: for ever. keepalive_s:
    WireGuard's."""

    peer: Key
    routes: tuple[Route, ...] = ()
    mode: PathMode = PathMode.PRIMARY
    silence_s: float = 0.0
    keepalive_s: int = 0


@dataclass(frozen=True, slots=True)
class ClearSilence:
    """The peer was heard on its first path by other means: a PROBE was answered."""

    peer: Key


@dataclass(frozen=True, slots=True)
class AdmitChannel:
    """Take control datagrams out of this channel: a relay of ours has opened it."""

    path: Path


@dataclass(frozen=True, slots=True)
class DismissChannel:
    path: Path


@dataclass(frozen=True, slots=True)
class OpenRelay:
    """Forward between two clients of ours, at their paths; RelayOpened follows. rate, burst: bytes/s and
    bytes, quota: bytes in the channel's life; 0: unlimited. trusted: the limits of all channels do not
    apply."""

    request: int
    opener: Path
    target: Path
    rate: int = 0
    burst: int = 0
    quota: int = 0
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class MoveRelay:
    """The client of this leg is at another path now."""

    leg: int
    path: Path


@dataclass(frozen=True, slots=True)
class LimitRelay:
    """Other limits for a channel than OpenRelay gave it. leg: either of the channel's two."""

    leg: int
    rate: int = 0
    burst: int = 0
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class CloseRelay:
    """leg: either of the channel's two."""

    leg: int


@dataclass(frozen=True, slots=True)
class SetRelayLimits:
    """Of all channels together that are not trusted: bytes/s, bytes, bytes in 24 hours; 0: unlimited."""

    rate: int = 0
    burst: int = 0
    day_quota: int = 0


@dataclass(frozen=True, slots=True)
class OpenSocket:
    """One more UDP socket for hole punching, on a free port; SocketOpened follows. family: 4 or 6."""

    request: int
    family: int


@dataclass(frozen=True, slots=True)
class CloseSocket:
    socket: int


@dataclass(frozen=True, slots=True)
class AdoptSocket:
    """Give a socket of OpenSocket to the data plane; SocketAdopted follows."""

    socket: int


@dataclass(frozen=True, slots=True)
class BindAlias:
    """Make the alias's place in the network the claimant's, for good: its proof holds, and it was the first.
    AliasBound follows, once that would survive a crash. check_words: what the claimant's end shows."""

    alias: Key
    claimant: Key
    check_words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConnectTcp:
    """Reach the node that has this address with UDP by TCP, at the first of these ports where it answers.
    TcpConnected or TcpLost follows."""

    address: Address
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DisconnectTcp:
    """No event follows."""

    address: Address


@dataclass(frozen=True, slots=True)
class SendBeacon:
    """Tell all LANs of this host that we are here."""


@dataclass(frozen=True, slots=True)
class ResolveName:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class RememberAddresses:
    """Of the file's public nodes, by their own records: all that are known, for AddressesRemembered at the
    next start."""

    addresses: tuple[tuple[Key, tuple[Address, ...]], ...]


@dataclass(frozen=True, slots=True)
class LeaveOutIpv6:
    """Names of these members, and of no others, shall lead to no IPv6 address: their hosts take none."""

    members: frozenset[Key]


@dataclass(frozen=True, slots=True)
class Notify:
    """Progress (final=False) or the result of a request that came in as an event, for whoever asked."""

    request: int
    final: bool
    body: dict[str, Any] = field(default_factory=dict)


Command = (
    Send
    | Reply
    | Knock
    | ResetSession
    | SetDataPaths
    | ClearSilence
    | AdmitChannel
    | DismissChannel
    | OpenRelay
    | MoveRelay
    | LimitRelay
    | CloseRelay
    | SetRelayLimits
    | OpenSocket
    | CloseSocket
    | AdoptSocket
    | BindAlias
    | ConnectTcp
    | DisconnectTcp
    | SendBeacon
    | ResolveName
    | RememberAddresses
    | LeaveOutIpv6
    | Notify
)
