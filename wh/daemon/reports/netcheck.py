"""The answer to `wh netcheck`: the network around this node, as it is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal, cast

from wh.config.model import Network
from wh.engine.events import Key
from wh.ipc import schema
from wh.naming.table import NameTable
from wh.nat.behavior import NatBehaviour
from wh.nat.port_mapping import Held, Outcome, Protocol
from wh.net.mapping.port_mapper import MapperReport
from wh.node.status import PeerStatus, RelayStatus, Surroundings
from wh.wire.address import Address, ip_of, is_v4, port_of, to_text
from wh.wire.candidates import Filtering, Mapping
from whcore.keys import encode_key

Version = Literal[4, 6]

MAPPING_NAMES: dict[Mapping, schema.MappingKind] = {
    Mapping.UNKNOWN: "unknown",
    Mapping.NONE: "none",
    Mapping.ENDPOINT_INDEPENDENT: "endpoint-independent",
    Mapping.SEQUENTIAL: "sequential",
    Mapping.RANDOM: "random",
}
FILTERING_NAMES: dict[Filtering, schema.FilteringKind] = {
    Filtering.UNKNOWN: "unknown",
    Filtering.ENDPOINT_INDEPENDENT: "endpoint-independent",
    Filtering.ADDRESS_DEPENDENT: "address-dependent",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "address-and-port-dependent",
}
PROTOCOLS = {4: tuple(Protocol), 6: (Protocol.PCP,)}
"""What gateways are asked for, by IP version."""


def check_network(
    interface: str,
    listen_port: int,
    network: Network,
    own_key: Key,
    peers: Iterable[PeerStatus],
    around: Surroundings,
    mapper: MapperReport,
    now: float,
) -> schema.NetCheck:
    """now: monotonic seconds, as in the mapper's report."""
    names = NameTable(network)
    own = network.peer(own_key)
    return schema.NetCheck(
        interface=interface,
        hostname=own.hostname if own else None,
        listen_port=listen_port,
        udp="blocked" if around.udp_blocked else "works" if around.answered else "unknown",
        families=[_family(version, around) for version in (4, 6)],
        hairpinning=around.hairpinning,
        gateways=[str(gateway.address) for gateway in mapper.gateways.values()],
        searching=mapper.searching,
        port_mappings=list(_port_mappings(mapper, around.proved_mappings, now)),
        relays=[_relay(relay) for relay in around.relays],
        peers=[_peer(peer, names) for peer in peers],
    )


def _family(version: Version, around: Surroundings) -> schema.FamilyCheck:
    own = [str(ip_of(address)) for address in around.local if _version(address) == version]
    behaviour = next((each for each in around.behaviours if _version(each.observed[0]) == version), None)
    if behaviour is None:
        behaviour = NatBehaviour(Mapping.UNKNOWN, Filtering.UNKNOWN, ())
    return schema.FamilyCheck(
        version=version,
        own=own,
        seen_as=[to_text(address) for address in behaviour.observed],
        mapping=MAPPING_NAMES[behaviour.mapping],
        filtering=FILTERING_NAMES[behaviour.filtering],
        pool=behaviour.pool,
    )


def _port_mappings(
    mapper: MapperReport, proved: tuple[Address, ...], now: float
) -> Iterator[schema.MappingCheck]:
    """A line for each mapping, and one for each protocol that was asked and has none."""
    for version, gateway in mapper.gateways.items():
        for protocol in PROTOCOLS[version]:
            held = [
                each
                for each in mapper.held
                if each.protocol is protocol and _version(each.wanted.internal) == version
            ]
            for each in held:
                yield _held(each, str(gateway.address), proved, now)
            outcome = mapper.outcomes.get((protocol, version))
            if not held and outcome is not None:
                yield _not_held(protocol, cast(Version, version), str(gateway.address), outcome)


def _held(held: Held, gateway: str, proved: tuple[Address, ...], now: float) -> schema.MappingCheck:
    """Proved is the port: of the address the gateway may be wrong."""
    version = _version(held.wanted.internal)
    ports = {port_of(address) for address in proved if _version(address) == version}
    transport = cast(Literal["udp", "tcp"], held.wanted.transport)
    return schema.MappingCheck(
        protocol=held.protocol.value,
        version=version,
        gateway=gateway,
        state="maps",
        transport=transport,
        external=to_text(held.external),
        lease_s=None if math.isinf(held.expires_at) else max(0.0, held.expires_at - now),
        verified=transport == "udp" and port_of(held.external) in ports,
    )


def _not_held(protocol: Protocol, version: Version, gateway: str, outcome: Outcome) -> schema.MappingCheck:
    state: schema.GatewayState = "absent"
    if outcome.found:
        state = "refuses" if outcome.trouble else "there"
    return schema.MappingCheck(
        protocol=protocol.value,
        version=version,
        gateway=gateway,
        state=state,
        external=str(ip_of(outcome.external)) if outcome.external else None,
        trouble=outcome.trouble,
    )


def _relay(relay: RelayStatus) -> schema.NearRelay:
    return schema.NearRelay(
        encode_key(relay.key), to_text(relay.endpoint), relay.rtt_ms, reserved=relay.reserved
    )


def _peer(peer: PeerStatus, names: NameTable) -> schema.PeerCheck:
    entry = names.of_key(peer.key)
    return schema.PeerCheck(
        public_key=encode_key(peer.key),
        hostname=entry.hostname if entry else None,
        state=cast(schema.PathState, peer.state),
        relay=encode_key(peer.relay) if peer.relay else None,
        why_relayed=peer.why_relayed or None,
    )


def _version(address: Address) -> Version:
    return 4 if is_v4(address) else 6
