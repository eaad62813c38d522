"""The answer to `wh show` and `wh inspect`, put together from what the parts of a daemon tell of
themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import cast, get_args

from wh.config.model import Network, Peer
from wh.daemon.overlay import own_address
from wh.engine.events import Key
from wh.errors import SystemSetupError
from wh.ipc import schema
from wh.naming.table import NameTable
from wh.node.status import ContactStatus, NodeStatus
from wh.node.status import PeerStatus as PathStatus
from wh.wire.address import to_text
from whcore.datapath import PeerStatus as TrafficStatus
from whcore.keys import bucket_index, encode_key, orchid

NS = 10**9
STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while a daemon runs."""

    interface: str
    has_interface: bool
    listen_port: int
    version: str
    pid: int
    started_unix: float
    config_path: str | None
    namespace_pid: int | None = None
    privileges: schema.Privileges | None = None
    device: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What every part says at one moment."""

    network: Network
    node: NodeStatus
    traffic: dict[Key, TrafficStatus]
    data: dict[str, int]
    control: dict[str, int]
    check_words: Callable[[Key], tuple[str, ...]]
    warnings: tuple[SystemSetupError, ...] = ()
    unresolved: dict[str, str] = field(default_factory=dict)


def describe(facts: Facts, now: Snapshot) -> schema.Status:
    network, node = now.network, now.node
    own = network.peer(node.key)
    address = own_address(network, node.key)
    return schema.Status(
        interface=facts.interface,
        has_interface=facts.has_interface,
        network=network.name,
        namespace=network.namespace,
        public_key=encode_key(node.key),
        hostname=own.hostname if own else None,
        address=str(address.ip) if address else None,
        orchid=_orchid_text(node.key, network),
        listen_port=facts.listen_port,
        mode=cast(schema.NodeMode, node.mode),
        reachability=_reachability(node),
        nat=node.nat or None,
        candidates=[to_text(candidate.endpoint) for candidate in node.candidates],
        version=facts.version,
        pid=facts.pid,
        started_unix=facts.started_unix,
        config_path=facts.config_path,
        namespace_pid=facts.namespace_pid,
        privileges=facts.privileges,
        peers=_peers(now),
        dht=_dht(node),
        relays=[
            schema.RelayInfo(encode_key(relay.key), to_text(relay.endpoint), relay.rtt_ms)
            for relay in node.relays
        ],
        relayed=schema.Relayed(node.relayed.offered, node.relayed.reservations, node.relayed.channels),
        data=now.data,
        control=now.control,
        tcp_links=[to_text(address) for address in node.tcp_links],
        listen_tcp=network.listen_tcp,
        device=facts.device,
        warnings=[schema.failure_of(warning) for warning in now.warnings],
        unresolved=dict(now.unresolved),
        key_doubled=node.key_elsewhere,
    )


def _reachability(node: NodeStatus) -> schema.Reachability:
    """What was said or proved counts more than what others saw."""
    if node.tcp_links:
        return "blocked"
    if node.server:
        return "direct"
    if node.mode == "nat" or node.translated:
        return "nat"
    return "unknown" if node.translated is None else "untranslated"


def _peers(now: Snapshot) -> list[schema.PeerInfo]:
    """Those of the file in its order, then strangers that a path exists to."""
    paths = {peer.key: peer for peer in now.node.peers}
    contacts = {contact.key: contact for contact in now.node.contacts}
    keys = dict.fromkeys((*(peer.key for peer in now.network.peers), *paths))
    keys.pop(now.node.key, None)
    names = NameTable(now.network)
    return [_peer(now, key, names, now.network.peer(key), paths.get(key), contacts.get(key)) for key in keys]


def _peer(
    now: Snapshot,
    key: Key,
    names: NameTable,
    peer: Peer | None,
    path: PathStatus | None,
    contact: ContactStatus | None,
) -> schema.PeerInfo:
    """A server that is no trusted peer has no path in the engine's sense: it is direct where it answers."""
    traffic = now.traffic.get(key)
    handshake_ns = traffic.last_handshake_unix_ns if traffic else 0
    source = path if path is not None else contact
    endpoint = source.endpoint if source else None
    state = path.state if path else ("direct" if contact else "idle")
    if state not in get_args(schema.PathState):
        raise ValueError(f"{state!r} is not a state of a path")
    entry = names.of_key(key)
    return schema.PeerInfo(
        public_key=encode_key(key),
        hostname=entry.hostname if entry else None,
        kind=peer.kind.value if peer else STRANGER,
        address=str(peer.ip) if peer and peer.ip else None,
        orchid=_orchid_text(key, now.network),
        state=cast(schema.PathState, state),
        endpoint=to_text(endpoint) if endpoint else None,
        rtt_ms=source.rtt_ms if source else None,
        last_handshake_unix=handshake_ns / NS if handshake_ns else None,
        received_bytes=traffic.rx_bytes if traffic else 0,
        sent_bytes=traffic.tx_bytes if traffic else 0,
        alias=peer.is_alias if peer else False,
        key_doubled=key in now.node.doubled,
        without_ipv6=path.without_ipv6 if path else False,
        relay=encode_key(path.relay) if path and path.relay else None,
        mtu=(path.mtu or None) if path else None,
        why_relayed=(path.why_relayed or None) if path else None,
        expires_unix=peer.expires if peer else None,
        check_words=list(now.check_words(key) if peer and peer.trusted else ()),
    )


def _dht(node: NodeStatus) -> schema.DhtInfo:
    contacts = [
        schema.Contact(
            public_key=encode_key(contact.key),
            address=to_text(contact.endpoint),
            bucket=bucket_index(node.key, contact.key),
            state=_contact_state(contact),
            rtt_ms=contact.rtt_ms,
        )
        for contact in node.contacts
    ]
    return schema.DhtInfo(
        servers=len(contacts),
        stored_records=node.stored_records,
        size_estimate=node.size_estimate,
        contacts=contacts,
    )


def _contact_state(contact: ContactStatus) -> schema.ContactState:
    if contact.bootstrap:
        return "bootstrap"
    return "live" if contact.alive else "questionable"


def _orchid_text(key: Key, network: Network) -> str:
    return str(IPv6Address(orchid(key, network.namespace.encode())))
