"""What goes over the local socket: one request, then progress lines and one answer, each a line of JSON.

    -> {"verb": "ping", "args": {"peer": "node_b"}}
    <- {"progress": {...}}            zero or more
    <- {"ok": {...}}                  or {"error": {"code": ..., "message": ..., "hint": ...}}

Keys are text (43 characters of URL-safe base64), addresses are text, times are Unix seconds, durations say
their unit.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from wh.errors import ConfigErrors
from whcore.errors import WireHubError

REQUEST_LEN_MAX = 64 * 1024
"""Bytes of a request line."""

EXPIRES_MAX_S = 10 * 366 * 24 * 3600

PeerText = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
"""A key in either base64 form, or a peer's host name."""

Arguments = TypeVar("Arguments", bound=msgspec.Struct)
Result = TypeVar("Result", bound=msgspec.Struct)

NodeMode = Literal["unknown", "direct", "nat"]
Reachability = Literal["unknown", "untranslated", "nat", "direct", "blocked"]
PathState = Literal["idle", "relayed", "punching", "validating", "direct", "suspect"]
ContactState = Literal["live", "questionable", "replacement", "bootstrap"]


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """args stay undecoded until the verb, and with it their type, is known and permitted."""

    verb: Annotated[str, msgspec.Meta(max_length=32)]
    args: msgspec.Raw = msgspec.Raw(b"{}")


class Failure(msgspec.Struct, omit_defaults=True):
    """An error as it travels, on the socket and on the daemon's readiness pipe.

    code: stable, such as WH101. hint: what to do. place: file:line:column. more: the other problems of the
    same network file.
    """

    code: str
    message: str
    hint: str = ""
    place: str | None = None
    more: list[Failure] = []


def failure_of(error: WireHubError) -> Failure:
    """The error as it travels; each problem of a network file stays an error of its own."""
    problems = error.errors if isinstance(error, ConfigErrors) else (error,)
    first, *more = [Failure(problem.code, str(problem), problem.hint, problem.place) for problem in problems]
    first.more = more
    return first


class Answer(msgspec.Struct):
    """One line from the daemon: exactly one of the fields is set; an empty Raw is one that is not. file: it
    waits for the open file that the verb takes."""

    ok: msgspec.Raw = msgspec.Raw()
    progress: msgspec.Raw = msgspec.Raw()
    error: Failure | None = None
    file: bool = False


class NoArguments(msgspec.Struct, forbid_unknown_fields=True):
    pass


class PeerArguments(msgspec.Struct, forbid_unknown_fields=True):
    peer: PeerText


class ResolveArguments(msgspec.Struct, forbid_unknown_fields=True):
    name: PeerText
    """A host name, a key, or an overlay address (for the reverse question)."""


class InviteArguments(msgspec.Struct, forbid_unknown_fields=True):
    """name: the host name that the newcomer will have. expires_s: from now; None: never."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    expires_s: Annotated[int, msgspec.Meta(ge=1, le=EXPIRES_MAX_S)] | None = None


class AuthenticateArguments(msgspec.Struct, forbid_unknown_fields=True):
    """descriptor: of the alias's private key; what the caller passed, whatever the request says."""

    peer: PeerText
    descriptor: int = -1


class ClaimArguments(msgspec.Struct, forbid_unknown_fields=True):
    invitation: Annotated[str, msgspec.Meta(max_length=4096)]


class Nothing(msgspec.Struct):
    """The result of a verb that only succeeds."""


class PeerInfo(msgspec.Struct):
    """A peer of the network file, or one that a path exists to. check_words: of one that came in by an alias
    of ours. expires_unix: of an alias, when it can be claimed no more."""

    public_key: str
    hostname: str | None
    kind: str
    """The word its line begins with: boot, trust, router, peer, alias; `stranger` for others."""
    address: str | None
    orchid: str
    state: PathState
    endpoint: str | None = None
    rtt_ms: float | None = None
    last_handshake_unix: float | None = None
    received_bytes: int = 0
    sent_bytes: int = 0
    alias: bool = False
    key_doubled: bool = False
    without_ipv6: bool = False
    """Its host takes no IPv6 of the overlay, by its own word."""
    relay: str | None = None
    """Key of the relay that `endpoint` is the address of; None where the path is direct."""
    mtu: int | None = None
    """Largest IP datagram of the path, in bytes, as measured; None where it is not known."""
    why_relayed: str | None = None
    check_words: list[str] = []
    expires_unix: int | None = None


class Contact(msgspec.Struct):
    """One entry of the routing table. bucket: 1 + length in bits of the prefix shared with our key."""

    public_key: str
    address: str
    bucket: int
    state: ContactState
    rtt_ms: float | None = None


class DhtInfo(msgspec.Struct):
    servers: int
    stored_records: int
    size_estimate: int | None = None
    contacts: list[Contact] = []


class RelayInfo(msgspec.Struct):
    """A relay by which others reach us. rtt_ms: when the reservation was made."""

    public_key: str
    address: str
    rtt_ms: float | None = None


class Relayed(msgspec.Struct):
    """What we relay for others, now. offered: others may ask."""

    offered: bool = False
    reservations: int = 0
    channels: int = 0


class Privileges(msgspec.Struct):
    """What the daemon kept. user: whose it is now. why_root: why it stays root; empty: it does not.
    capabilities: as in capabilities(7). sandbox: what the kernel holds it to. helper: process id of the part
    that stayed root; None: there is none."""

    user: str
    capabilities: list[str]
    sandbox: list[str]
    why_root: str = ""
    helper: int | None = None


class Status(msgspec.Struct):
    """A daemon, whole.

    has_interface: a node whose file has neither subnet nor member makes none, and only serves the DHT.
    address: our own in the overlay's subnet. mode: as `wh up` was told; reachability: as it turned out
    (blocked: UDP does not get through). data and control: counters by name. tcp_links: public nodes that are
    reached over TCP, by their UDP addresses. listen_tcp: where we take others over TCP. unresolved: names
    of endpoints that could not be looked up, and why. key_doubled (of peers too): two running nodes have it.
    namespace_pid: a process in the network namespace that the interface is in; None: it is the host's.
    """

    interface: str
    has_interface: bool
    network: str | None
    namespace: str
    public_key: str
    hostname: str | None
    address: str | None
    orchid: str
    listen_port: int
    mode: NodeMode
    reachability: Reachability
    nat: str | None
    candidates: list[str]
    version: str
    pid: int
    started_unix: float
    config_path: str | None
    peers: list[PeerInfo]
    dht: DhtInfo
    relays: list[RelayInfo] = []
    relayed: Relayed = msgspec.field(default_factory=Relayed)
    data: dict[str, int] = {}
    control: dict[str, int] = {}
    tcp_links: list[str] = []
    listen_tcp: int | None = None
    unresolved: dict[str, str] = {}
    key_doubled: bool = False
    namespace_pid: int | None = None
    privileges: Privileges | None = None
    device: str = ""
    """The interface, by the name that it has now."""
    warnings: list[Failure] = []
    """What is not as it should be, or was a short while ago."""


class Reloaded(msgspec.Struct):
    """Host names, or keys where a peer has no name."""

    added: list[str]
    removed: list[str]
    changed: list[str]


class LookupProgress(msgspec.Struct):
    asked: int
    """Servers asked so far."""
    closest_bucket: int
    """Bucket index between the key and the closest contact that answered."""


class LookupResult(msgspec.Struct):
    """relays: keys. hops: length of the chain of answers that led to the record."""

    public_key: str
    found: bool
    candidates: list[str]
    relays: list[str]
    hops: int
    elapsed_ms: float


class PingResult(msgspec.Struct):
    """via: the key of the relay, or None where the answer came on a direct path."""

    public_key: str
    hostname: str | None
    endpoint: str | None
    rtt_ms: float
    via: str | None


class Invited(msgspec.Struct):
    """invitation: a secret. alias: its public key, as the network file has it now."""

    invitation: str
    name: str
    alias: str
    address: str | None
    expires_unix: int | None


class Authenticated(msgspec.Struct):
    """A claim that was accepted. public_key: the server's. name, addresses: our own there. endpoint: where
    the server answered; None where that was through a relay. check_words: the server shows the same."""

    public_key: str
    name: str
    addresses: list[str]
    subnet: str | None
    server_name: str
    server_addresses: list[str]
    endpoint: str | None
    check_words: list[str]


class Revoked(msgspec.Struct):
    """kind: what its line was: trust, router or alias."""

    public_key: str
    hostname: str | None
    kind: str


class ResolveResult(msgspec.Struct):
    name: str
    public_key: str
    hostname: str | None
    addresses: list[str]


Udp = Literal["works", "blocked", "unknown"]
MappingKind = Literal["unknown", "none", "endpoint-independent", "sequential", "random"]
FilteringKind = Literal["unknown", "endpoint-independent", "address-dependent", "address-and-port-dependent"]
GatewayState = Literal["maps", "there", "refuses", "absent"]


class FamilyCheck(msgspec.Struct):
    """One IP version. own: the host's addresses. seen_as: addresses with ports that servers see, the most
    often seen first. mapping, filtering: RFC 4787 4.1 and 5; `none`: no translation. pool: the NAT has
    several public addresses."""

    version: Literal[4, 6]
    own: list[str]
    seen_as: list[str]
    mapping: MappingKind
    filtering: FilteringKind
    pool: bool = False


class MappingCheck(msgspec.Struct):
    """What one port mapping protocol does at the default gateway. external: of a mapping, with its port; else
    the address that the gateway says to have. lease_s: what is left; None: without end, or no mapping.
    verified: a packet from outside came through it. trouble: what the gateway said."""

    protocol: Literal["PCP", "NAT-PMP", "UPnP IGD"]
    version: Literal[4, 6]
    gateway: str
    state: GatewayState
    transport: Literal["udp", "tcp"] | None = None
    external: str | None = None
    lease_s: float | None = None
    verified: bool = False
    trouble: str = ""


class NearRelay(msgspec.Struct):
    """reserved: it keeps a place for this node."""

    public_key: str
    address: str
    rtt_ms: float | None
    reserved: bool


class PeerCheck(msgspec.Struct):
    """Why a path is as it is. relay: key of the relay in use. why_relayed: None where the path is direct."""

    public_key: str
    hostname: str | None
    state: PathState
    relay: str | None
    why_relayed: str | None


class NetCheck(msgspec.Struct):
    """The network around a node. hairpinning: whether our NAT sends back what goes to its own outer
    address; None: not known. gateways: of this host, their addresses. searching: gateways are being asked
    right now."""

    interface: str
    hostname: str | None
    listen_port: int
    udp: Udp
    families: list[FamilyCheck]
    hairpinning: bool | None
    gateways: list[str]
    searching: bool
    port_mappings: list[MappingCheck]
    relays: list[NearRelay]
    peers: list[PeerCheck]


Place = Literal["host", "isolated", "none"]
ProblemKind = Literal["interface", "membership", "public-nodes", "key", "clock"]


class HealthProblem(msgspec.Struct):
    """Why a node does not do what it is there for. fix: what to do."""

    kind: ProblemKind
    text: str
    fix: str


class Health(msgspec.Struct):
    """place: where the interface is; none: a public node, which has none. servers: public nodes that are
    known. direct, relayed: of the members, those that a path exists to. over_tcp: UDP does not get
    through."""

    interface: str
    healthy: bool
    place: Place
    public_key: str
    servers: int
    members: int
    direct: int
    relayed: int
    over_tcp: bool
    problems: list[HealthProblem]


class Access(Enum):
    """Who may call a verb.

    USE: root, the daemon's own user, members of the group `wirehub`. ADMIN: the first two.
    """

    USE = "use"
    ADMIN = "admin"


class Verb(msgspec.Struct, Generic[Arguments, Result], frozen=True):
    """Something that a daemon can be asked. takes_file: the caller passes an open file, which becomes the
    arguments' `descriptor`: the daemon opens nothing for others."""

    name: str
    access: Access
    arguments: type[Arguments]
    result: type[Result]
    takes_file: bool = False


STATUS = Verb("status", Access.USE, NoArguments, Status)
NETCHECK = Verb("netcheck", Access.USE, NoArguments, NetCheck)
HEALTH = Verb("health", Access.USE, NoArguments, Health)
RESOLVE = Verb("resolve", Access.USE, ResolveArguments, ResolveResult)
LOOKUP = Verb("lookup", Access.USE, PeerArguments, LookupResult)
"""Its progress lines are LookupProgress."""
PING = Verb("ping", Access.USE, PeerArguments, PingResult)
DOWN = Verb("down", Access.ADMIN, NoArguments, Nothing)
RELOAD = Verb("reload", Access.ADMIN, NoArguments, Reloaded)
FORGET = Verb("forget", Access.ADMIN, PeerArguments, Nothing)
INVITE = Verb("invite", Access.ADMIN, InviteArguments, Invited)
AUTHENTICATE = Verb("authenticate", Access.ADMIN, AuthenticateArguments, Authenticated, takes_file=True)
CLAIM = Verb("claim", Access.ADMIN, ClaimArguments, Authenticated)
REVOKE = Verb("revoke", Access.ADMIN, PeerArguments, Revoked)

VERBS: dict[str, Verb[Any, Any]] = {
    verb.name: verb
    for verb in (
        STATUS,
        NETCHECK,
        HEALTH,
        RESOLVE,
        LOOKUP,
        PING,
        DOWN,
        RELOAD,
        FORGET,
        INVITE,
        AUTHENTICATE,
        CLAIM,
        REVOKE,
    )
}


class Ready(msgspec.Struct):
    """What a daemon has made, once its interface is usable. has_interface: as in Status. listen_port: never
    0."""

    interface: str
    has_interface: bool
    public_key: str
    address: str | None
    listen_port: int
    warnings: list[str] = []


class Readiness(msgspec.Struct, omit_defaults=True):
    """The one line on a daemon's readiness pipe: exactly one of the fields is set."""

    ok: Ready | None = None
    error: Failure | None = None
