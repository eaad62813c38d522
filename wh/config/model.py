"""What a network file says, after checking."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from enum import Enum

from wh.wire.address import Address, pack

DEFAULT_NAMESPACE = "public"
DEFAULT_WORKBIT = 8
DEFAULT_PORT = 62096
MAX_WORKBIT = 64
# A whole word. With a hyphen in front, `ping` and the like would take it for an option.
HOSTNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")

RESOLVED_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
"""What all resolvers look up (RFC 1123, 2.1): systemd-resolved, for one, refuses an underscore."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class PeerKind(Enum):
    """The word a peer's line begins with."""

    BOOT = "boot"
    TRUST = "trust"
    ROUTER = "router"
    PEER = "peer"
    ALIAS = "alias"


TRUSTED_KINDS = frozenset({PeerKind.TRUST, PeerKind.ROUTER, PeerKind.ALIAS})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a peer listens: a host name or numeric address, a UDP port, and a TCP port where one is said."""

    host: str
    port: int = DEFAULT_PORT
    tcp_port: int | None = None

    @property
    def address(self) -> Address | None:
        """18 wire bytes, or None where host is a name that must be resolved."""
        try:
            return pack(self.host, self.port)
        except ValueError:
            return None

    def __str__(self) -> str:
        """As in the network file."""
        place = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return place if self.tcp_port is None else f"{place} tcp:{self.tcp_port}"


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer line."""

    kind: PeerKind
    key: bytes  # 32 bytes; for an alias, the alias's public key
    hostname: str | None = None
    ip: IPAddress | None = None  # inside the subnet; assigned where the line has none
    static_ip: bool = False  # the line itself gave ip
    endpoint: Endpoint | None = None
    line: int = field(default=0, compare=False)
    at: bytes | None = None  # of an alias: key of the only node where it can be claimed
    expires: int | None = None  # of an alias: Unix seconds, after which nobody can claim it

    @property
    def trusted(self) -> bool:
        return self.kind in TRUSTED_KINDS

    @property
    def is_alias(self) -> bool:
        return self.kind is PeerKind.ALIAS


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    """Whether we relay at all, and what for strangers. rate: bytes/s of a channel; total_rate: of all;
    day_quota: bytes of all in 24 hours; 0: unlimited."""

    offered: bool = True
    rate: int = 1_000_000
    total_rate: int = 10_000_000
    day_quota: int = 100_000_000_000


@dataclass(frozen=True, slots=True)
class Network:
    """One network file. A key has at most two entries in peers: boot or peer, and trust or router."""

    name: str | None = None
    namespace: str = DEFAULT_NAMESPACE
    workbit: int = DEFAULT_WORKBIT
    subnet: IPNetwork | None = None
    secret: str | None = field(default=None, repr=False)  # base64 of 32 bytes, shared by all members
    relay: RelayPolicy = RelayPolicy()
    listen_tcp: int | None = None  # port where this node also takes those whose UDP is blocked
    peers: tuple[Peer, ...] = ()  # in the order of the file
    path: str | None = field(default=None, compare=False)

    def peer(self, key: bytes) -> Peer | None:
        """What the file says of a key. One that has a boot or peer line besides its trust or router line is
        the trusted peer, with the other line's endpoint where its own has none."""
        entries = [peer for peer in self.peers if peer.key == key]
        if not entries:
            return None
        entries.sort(key=lambda peer: not peer.trusted)
        endpoint = next((peer.endpoint for peer in entries if peer.endpoint), None)
        return replace(entries[0], endpoint=endpoint)
