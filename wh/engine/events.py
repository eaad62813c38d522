"""What happens to a node, as values: Node.handle(event, now) takes these and answers with commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wh.config.model import Network
from wh.wire.address import Address
from wh.wire.messages import Contact, Message

Key = bytes
"""32 bytes, an X25519 public key: a node's identity."""


class Instant(NamedTuple):
    """One reading of both clocks, in seconds."""

    monotonic: float
    unix: float


TCP = -1
"""The socket of a path over TCP: the remote address alone tells the connection (docs/protocol.md section 1).
For who connected that is the address that the other node has with UDP, for who accepted where the client is.
"""


class Path(NamedTuple):
    """A way to a peer: one of our sockets and the address it sends to; through a relay, that is the relay's,
    and channel is our leg of a channel there. channel 0: the peer itself is there."""

    socket: int
    remote: Address
    channel: int = 0


PUNCH_SOCKETS_FROM = 1 << 16
"""Socket ids from here up are of OpenSocket: outside the data plane, which cannot send on them."""


@dataclass(frozen=True, slots=True)
class ReplyToken:
    """Where an answer to a received request must go: opaque to the engine, made by the runner."""

    peer: Key
    path: Path
    pending: int | None  # handle of an INIT waiting for its RESP; None: the request came in a session


@dataclass(frozen=True, slots=True)
class NetworkLoaded:
    """The network file, at start and after each reload."""

    network: Network


@dataclass(frozen=True, slots=True)
class LocalAddresses:
    """Our sockets and the addresses of the host's interfaces with our port; again after each change."""

    sockets: tuple[tuple[int, int], ...]  # socket id, family 4 or 6
    addresses: tuple[Address, ...]


class PortMapping(NamedTuple):
    """What a gateway says it does for us: packets to `external` reach our `internal_port`. transport: "udp"
    or "tcp"."""

    transport: str
    internal_port: int
    external: Address


@dataclass(frozen=True, slots=True)
class MappingsChanged:
    """All mappings that gateways hold for us now; again after each change. Nothing of it is proved."""

    mappings: tuple[PortMapping, ...]


@dataclass(frozen=True, slots=True)
class AddressesRemembered:
    """What RememberAddresses said last, in an earlier run."""

    addresses: tuple[tuple[Key, tuple[Address, ...]], ...]


@dataclass(frozen=True, slots=True)
class LinksChanged:
    """Something of the host's links, addresses, routes or rules is other than it was, whether or not
    LocalAddresses says so: what failed for want of a network may work."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """Servers, the best first, and members' last addresses, of an earlier run. Nothing of it is proved."""

    servers: tuple[Contact, ...] = ()
    members: tuple[tuple[Key, Address], ...] = ()


@dataclass(frozen=True, slots=True)
class OverlayIpv6Changed:
    """Whether this host takes IPv6 out of the overlay; before the first of these it does."""

    taken: bool


@dataclass(frozen=True, slots=True)
class Woke:
    """The machine slept: what the networks around it knew of us may be gone."""


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """One message of a peer whose key the envelope has proved.

    reply: set for every request; the answer goes on the request's path. first_contact: it came in an INIT, so
    its source address is not validated. capacity: longest payload, in bytes, that an answer may have.
    """

    peer: Key
    path: Path
    message: Message
    reply: ReplyToken
    first_contact: bool
    capacity: int


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """Keys with a peer are confirmed, and `path` is where it answered from: validated."""

    peer: Key
    path: Path
    initiator: bool


@dataclass(frozen=True, slots=True)
class SendFailed:
    """A Send needed a session and there is none, or the socket refused."""

    peer: Key
    path: Path
    message: Message


@dataclass(frozen=True, slots=True)
class KnockReceived:
    source: Address
    nonce: bytes


@dataclass(frozen=True, slots=True)
class PathWanted:
    """The data plane holds traffic for a peer that has no path."""

    peer: Key


@dataclass(frozen=True, slots=True)
class DataOnNewPath:
    """An authenticated WireGuard packet of a managed peer arrived on a path that is not the one sent on."""

    peer: Key
    path: Path


@dataclass(frozen=True, slots=True)
class DataSession:
    """The data plane completed (up) or gave up a WireGuard handshake with a peer."""

    peer: Key
    up: bool


@dataclass(frozen=True, slots=True)
class DataTraffic:
    """User bytes moved since the last report, from the runner every few seconds for peers with a path."""

    peer: Key
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class PathSilent:
    """Data went out on one of the peer's paths and nothing came back on it for the time set with the paths:
    the other one is used too. received: packets of the user that came from the peer so far, on whatever
    path."""

    peer: Key
    path: Path
    received: int = 0


@dataclass(frozen=True, slots=True)
class RelayOpened:
    """Answer to OpenRelay: the ids of both legs; None where the data plane's table is full."""

    request: int
    legs: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class RelayEnded:
    """The data plane ended channels that forwarded nothing for RELAY_SILENCE_S. legs: opener's and
    target's."""

    legs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SocketOpened:
    """Answer to OpenSocket. socket, port: of the new socket; None and 0 where the system refused."""

    request: int
    socket: int | None
    port: int


@dataclass(frozen=True, slots=True)
class SocketAdopted:
    """Answer to AdoptSocket: the data plane has the socket now, under another id; None where it has no
    room."""

    socket: int
    adopted: int | None


@dataclass(frozen=True, slots=True)
class TcpConnected:
    """Answer to ConnectTcp: Path(TCP, address) leads to the node."""

    address: Address


@dataclass(frozen=True, slots=True)
class TcpLost:
    """Answer to ConnectTcp where nobody of ours answered, and the end of every connection over TCP that was
    not asked for, also of those that others made to us."""

    address: Address


@dataclass(frozen=True, slots=True)
class BeaconHeard:
    """Somebody in a LAN of ours says that this key is there. Nothing proves it."""

    key: Key
    address: Address


@dataclass(frozen=True, slots=True)
class NameResolved:
    """Answer to ResolveName: no addresses where it failed."""

    host: str
    port: int
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class LookupRequested:
    """`wh lookup`: find a peer's record. Progress and result go out as Notify with this id."""

    request: int
    peer: Key


@dataclass(frozen=True, slots=True)
class PingRequested:
    """`wh ping`: one control round trip to a peer, looked up first if need be."""

    request: int
    peer: Key


@dataclass(frozen=True, slots=True)
class ClaimRequested:
    """`wh authenticate`, `wh join`: claim an alias at a peer. endpoints: where it may be; relays, as key and
    address: who may join us with it; both besides what is known. The runner has the alias's secret."""

    request: int
    peer: Key
    alias: Key
    endpoints: tuple[Address, ...] = ()
    relays: tuple[tuple[Key, Address], ...] = ()


@dataclass(frozen=True, slots=True)
class AliasBound:
    """Answer to BindAlias: an AuthStatus. With OK, NetworkLoaded came before."""

    alias: Key
    claimant: Key
    status: int


@dataclass(frozen=True, slots=True)
class AliasesClaimed:
    """Who has claimed which alias, from before the start: the file does not name these aliases any more."""

    claims: tuple[tuple[Key, Key], ...]  # alias, claimant; oldest first


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    request: int


@dataclass(frozen=True, slots=True)
class ForgetRequested:
    """`wh forget`: drop all that was learned of a peer (not what the file says)."""

    peer: Key


@dataclass(frozen=True, slots=True)
class Stopping:
    """The daemon is going down: say LEAVING to sessions."""


NodeEvent = MessageReceived | SessionOpened | SendFailed | KnockReceived
"""What other nodes sent us, or did not let us send."""

DataPlaneEvent = PathWanted | DataOnNewPath | DataSession | DataTraffic | PathSilent
"""What users' traffic shows of the paths to its peer."""

UserEvent = LookupRequested | PingRequested | ClaimRequested | RequestCancelled | ForgetRequested

HostEvent = (
    NetworkLoaded
    | LocalAddresses
    | MappingsChanged
    | AddressesRemembered
    | LinksChanged
    | Remembered
    | OverlayIpv6Changed
    | Woke
    | RelayOpened
    | RelayEnded
    | SocketOpened
    | SocketAdopted
    | TcpConnected
    | TcpLost
    | BeaconHeard
    | NameResolved
    | AliasBound
    | AliasesClaimed
    | Stopping
)
"""What becomes of this host and its surroundings, the network file, and of what we asked to be done."""

Event = NodeEvent | DataPlaneEvent | UserEvent | HostEvent
