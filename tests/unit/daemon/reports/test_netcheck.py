"""What `wh netcheck` knows, put together from the parts."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import replace

from wh.config.parser import parse
from wh.daemon.reports.netcheck import check_network
from wh.ipc import schema
from wh.nat.behavior import NatBehaviour
from wh.nat.port_mapping import Held, Outcome, Protocol, Wanted
from wh.net.links.rtnetlink import Gateway
from wh.net.mapping.port_mapper import MapperReport
from wh.node.status import PeerStatus, RelayStatus, Surroundings
from wh.wire.address import Address, pack
from wh.wire.candidates import Filtering, Mapping
from whcore.keys import SecretKey, encode_key

OWN, PEER, RELAY = (SecretKey.generate().public_key for _ in range(3))
NETWORK = parse(f"subnet 10.0.42.0/24\ntrust me {encode_key(OWN)}\ntrust node_b {encode_key(PEER)}\n")
INTERNAL, INTERNAL_6 = pack("192.168.1.2", 4000), pack("2001:db8::2", 4000)
EXTERNAL = pack("203.0.113.5", 14000)
SEEN = pack("203.0.113.5", 999)
GATEWAY = Gateway(ipaddress.IPv4Address("192.168.1.1"), ipaddress.IPv4Address("192.168.1.2"), 2)
GATEWAY_6 = Gateway(ipaddress.IPv6Address("fe80::1"), ipaddress.IPv6Address("2001:db8::2"), 2)
NOTHING = Surroundings(False, False, (INTERNAL,), (), None, (), ())
NO_GATEWAY = MapperReport({}, {}, (), searching=False)


def check(
    around: Surroundings = NOTHING, mapper: MapperReport = NO_GATEWAY, peers: tuple[PeerStatus, ...] = ()
) -> schema.NetCheck:
    return check_network("wh0", 4000, NETWORK, OWN, peers, around, mapper, 100.0)


def held(external: Address = EXTERNAL, expires_at: float = 3700.0, transport: str = "udp") -> MapperReport:
    mapping = Held(Protocol.PCP, Wanted(transport, INTERNAL), external, expires_at)
    return MapperReport({4: GATEWAY}, {(Protocol.PCP, 4): Outcome(external)}, (mapping,), searching=False)


def test_a_node_that_nobody_answered_knows_little() -> None:
    told = check()
    assert (told.interface, told.hostname, told.udp, told.hairpinning) == ("wh0", "me", "unknown", None)
    assert [(each.version, each.own, each.mapping) for each in told.families] == [
        (4, ["192.168.1.2"], "unknown"),
        (6, [], "unknown"),
    ]
    assert (told.gateways, told.port_mappings, told.relays) == ([], [], [])


def test_udp_works_or_is_blocked() -> None:
    assert check(replace(NOTHING, answered=True)).udp == "works"
    assert check(replace(NOTHING, udp_blocked=True, answered=True)).udp == "blocked"


def test_each_family_has_its_own_nat() -> None:
    behaviours = (
        NatBehaviour(Mapping.RANDOM, Filtering.ADDRESS_DEPENDENT, (SEEN, pack("203.0.113.6", 998))),
        NatBehaviour(Mapping.NONE, Filtering.ENDPOINT_INDEPENDENT, (INTERNAL_6,)),
    )
    v4, v6 = check(replace(NOTHING, behaviours=behaviours)).families
    assert (v4.mapping, v4.filtering, v4.pool) == ("random", "address-dependent", True)
    assert v4.seen_as == ["203.0.113.5:999", "203.0.113.6:998"]
    assert (v6.mapping, v6.filtering, v6.pool) == ("none", "endpoint-independent", False)


def test_a_mapping_is_verified_by_its_port_at_the_address_that_others_see() -> None:
    (told,) = check(mapper=held()).port_mappings
    assert (told.state, told.external, told.lease_s, told.verified) == (
        "maps",
        "203.0.113.5:14000",
        3600.0,
        False,
    )
    behind_another = held(pack("10.0.0.1", 14000), math.inf)
    (told,) = check(replace(NOTHING, proved_mappings=(EXTERNAL,)), behind_another).port_mappings
    assert (told.external, told.lease_s, told.verified) == ("10.0.0.1:14000", None, True)
    (told,) = check(replace(NOTHING, proved_mappings=(EXTERNAL,)), held(transport="tcp")).port_mappings
    assert not told.verified


def test_each_protocol_that_was_asked_says_what_came_of_it() -> None:
    outcomes = {
        (Protocol.PCP, 4): Outcome(None, "not authorized"),
        (Protocol.NAT_PMP, 4): Outcome(None),
        (Protocol.IGD, 4): Outcome(pack("203.0.113.5", 0)),
        (Protocol.PCP, 6): Outcome(None),
    }
    mapper = MapperReport({4: GATEWAY, 6: GATEWAY_6}, outcomes, (), searching=True)
    told = check(mapper=mapper)
    assert told.searching
    assert told.gateways == ["192.168.1.1", "fe80::1"]
    assert [(each.protocol, each.version, each.state, each.external) for each in told.port_mappings] == [
        ("PCP", 4, "refuses", None),
        ("NAT-PMP", 4, "absent", None),
        ("UPnP IGD", 4, "there", "203.0.113.5"),
        ("PCP", 6, "absent", None),
    ]


def test_relays_and_the_reason_why_a_peer_uses_one() -> None:
    relay = RelayStatus(RELAY, SEEN, 3.5, reserved=True)
    path = PeerStatus(PEER, "relayed", SEEN, RELAY, 0, None, None, (), "its NAT is random")
    told = check(replace(NOTHING, relays=(relay,)), peers=(path,))
    assert told.relays == [schema.NearRelay(encode_key(RELAY), "203.0.113.5:999", 3.5, reserved=True)]
    assert told.peers == [
        schema.PeerCheck(encode_key(PEER), "node_b", "relayed", encode_key(RELAY), "its NAT is random")
    ]
