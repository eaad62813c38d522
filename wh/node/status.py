"""What Node.snapshot() tells of a running node, for `wh show` and `wh inspect`."""

from __future__ import annotations

from dataclasses import dataclass

from wh.engine.events import Key
from wh.nat.behavior import NatBehaviour
from wh.wire.address import Address


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One trusted peer of the network file."""

    key: Key
    state: str  # a PathState value
    endpoint: Address | None  # where data goes, the peer's or a relay's; None while there is no path
    relay: Key | None  # whose relay; None where the path is direct
    mtu: int  # largest IP datagram of that path, in bytes; 0: not known
    rtt_ms: float | None  # smoothed control round trip
    heard_at: float | None  # monotonic seconds of the last message from it
    candidates: tuple[Address, ...]  # from the file and its record
    why_relayed: str  # why the path is not direct; empty where it is, or there is none
    without_ipv6: bool = False  # its host takes none of the overlay


@dataclass(frozen=True, slots=True)
class ContactStatus:
    """One server in the routing table."""

    key: Key
    endpoint: Address
    rtt_ms: float | None
    bootstrap: bool
    alive: bool  # it answered lately


@dataclass(frozen=True, slots=True)
class CandidateStatus:
    """An address of ours that we publish."""

    endpoint: Address
    confirmed: bool


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """A server that relays for others. reserved: it keeps a place for us."""

    key: Key
    endpoint: Address
    rtt_ms: float | None
    reserved: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The network around a node, for `wh netcheck`. behaviours: one for each address family that somebody saw
    us on. proved_mappings: our addresses at which a KNOCK came through a gateway's port mapping. relays: the
    nearest first."""

    udp_blocked: bool
    answered: bool  # some server has, since the surroundings changed last
    local: tuple[Address, ...]  # the host's own addresses
    behaviours: tuple[NatBehaviour, ...]
    hairpinning: bool | None
    proved_mappings: tuple[Address, ...]
    relays: tuple[RelayStatus, ...]


@dataclass(frozen=True, slots=True)
class Relayed:
    """What we relay for others. offered: we are reachable, and the operator lets us."""

    offered: bool = False
    reservations: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """slow_s: how much our clock seems to be behind, below 0: ahead; None: it seems right. fast: whose else
    is ahead of it, by seconds."""

    slow_s: float | None = None
    fast: tuple[tuple[Key, float], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeStatus:
    key: Key
    mode: str  # "unknown", "direct" or "nat"
    server: bool  # others may put us in their routing tables
    joined: bool  # at least one server answers
    nat: str  # one line of text: mapping and filtering as far as known; empty where nothing is
    translated: bool | None  # whether a NAT changes our address; None: not known
    candidates: tuple[CandidateStatus, ...]
    published: bool  # at least one server holds our current record
    peers: tuple[PeerStatus, ...]
    relays: tuple[RelayStatus, ...]  # where others can open a channel to us
    contacts: tuple[ContactStatus, ...]
    relayed: Relayed
    stored_records: int
    size_estimate: int  # servers in the whole network, ourselves included
    key_elsewhere: bool = False  # another node publishes under our key, or is heard by others
    doubled: tuple[Key, ...] = ()  # of the network file, which two running nodes have
    tcp_links: tuple[Address, ...] = ()  # of servers that we reach over TCP, since UDP does not get through
