"""What `wh inspect` tells, put together from the parts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wh.config.parser import parse
from wh.daemon.reports.inspection import Facts, Snapshot, describe
from wh.ipc import schema
from wh.ipc.schema import RelayInfo
from wh.node.status import ContactStatus, NodeStatus, PeerStatus, Relayed, RelayStatus
from wh.wire.address import pack
from whcore import datapath as core
from whcore.keys import SecretKey, encode_key

OWN, B, BOOT = (SecretKey.generate().public_key for _ in range(3))
NETWORK = parse(
    f"name net\nsubnet 10.0.42.0/24\nboot {encode_key(BOOT)} 192.0.2.7\n"
    f"trust me {encode_key(OWN)}\ntrust b {encode_key(B)}\n"
)
FACTS = Facts("wh0", True, 62096, "2", 1, 1.0, "/net")
HERE = pack("192.0.2.5", 62096)
QUIET = NodeStatus(OWN, "unknown", False, False, "", None, (), False, (), (), (), Relayed(), 0, 0)
WORDS = ("acid", "barn", "cactus")
NOW = Snapshot(
    NETWORK, QUIET, {}, {"rx_data": 1}, {"sessions": 2}, check_words=lambda key: WORDS if key == B else ()
)


def test_relays_are_told_by_us_and_for_others() -> None:
    relay = RelayStatus(BOOT, HERE, 12.0)
    told = describe(FACTS, replace(NOW, node=replace(QUIET, relays=(relay,), relayed=Relayed(True, 3, 2))))
    assert told.relays == [RelayInfo(encode_key(BOOT), "192.0.2.5:62096", 12.0)]
    assert told.relayed == schema.Relayed(True, 3, 2)


def traffic_of_b(handshake_ns: int) -> dict[bytes, core.PeerStatus]:
    return {B: core.PeerStatus(B, False, None, handshake_ns, 10, 20, 0, 0, 0, True, [], True)}


def test_a_quiet_node_tells_what_its_file_says() -> None:
    told = describe(FACTS, NOW)
    assert (told.interface, told.network, told.hostname, told.address) == ("wh0", "net", "me", "10.0.42.2")
    assert told.orchid.startswith("2001:2")
    assert [(peer.hostname, peer.kind, peer.state) for peer in told.peers] == [
        (None, "boot", "idle"),
        ("b", "trust", "idle"),
    ]
    assert [peer.check_words for peer in told.peers] == [[], list(WORDS)]
    assert (told.data, told.control) == ({"rx_data": 1}, {"sessions": 2})


@pytest.mark.parametrize(
    ("mode", "server", "translated", "told"),
    [
        ("unknown", False, None, "unknown"),
        ("unknown", False, False, "untranslated"),
        ("unknown", False, True, "nat"),
        ("unknown", True, True, "direct"),  # a NAT that lets everybody in
        ("direct", True, None, "direct"),
        ("nat", False, None, "nat"),
        ("nat", False, False, "nat"),
    ],
)
def test_reachability_is_what_was_said_or_proved_and_else_what_others_saw(
    mode: str, server: bool, translated: bool | None, told: str
) -> None:
    node = replace(QUIET, mode=mode, server=server, translated=translated)
    assert describe(FACTS, replace(NOW, node=node)).reachability == told


def test_a_peer_in_use_tells_path_and_traffic() -> None:
    path = PeerStatus(B, "direct", HERE, None, 1400, 1.5, None, (), "")
    now = replace(NOW, node=replace(QUIET, peers=(path,)), traffic=traffic_of_b(5 * 10**9))
    peer = describe(FACTS, now).peers[1]
    assert (peer.state, peer.endpoint, peer.rtt_ms) == ("direct", "192.0.2.5:62096", 1.5)
    assert (peer.relay, peer.mtu, peer.why_relayed) == (None, 1400, None)
    assert (peer.last_handshake_unix, peer.received_bytes, peer.sent_bytes) == (5.0, 10, 20)


def test_a_peer_without_handshake_has_no_time_of_it() -> None:
    peer = describe(FACTS, replace(NOW, traffic=traffic_of_b(0))).peers[1]
    assert peer.last_handshake_unix is None


def test_a_server_that_answers_is_a_contact_and_reachable() -> None:
    contact = ContactStatus(BOOT, HERE, 2.0, bootstrap=True, alive=True)
    told = describe(FACTS, replace(NOW, node=replace(QUIET, contacts=(contact,))))
    assert told.peers[0].state == "direct"
    (listed,) = told.dht.contacts
    assert (listed.public_key, listed.state, listed.address) == (
        encode_key(BOOT),
        "bootstrap",
        "192.0.2.5:62096",
    )
    assert 1 <= listed.bucket <= 256
