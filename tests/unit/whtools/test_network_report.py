"""What `wh netcheck` prints."""

from __future__ import annotations

from typing import Any

import pytest
from fake_daemon import NETCHECK, OWN_KEY, PEER_KEY
from msgspec.structs import replace

from wh.ipc.schema import FamilyCheck, MappingCheck, NetCheck, PeerCheck
from whtools.network_report import NetworkReport

GATEWAY = "192.168.1.1"


def rendered(check: NetCheck = NETCHECK, **changes: Any) -> str:
    return NetworkReport(colour=False).render(replace(check, **changes))


def test_the_whole_report() -> None:
    assert rendered() == (
        "interface wh0, node node_a\n"
        "  UDP: works\n"
        "  IPv4: seen as 203.0.113.5:999\n"
        "    mapping: endpoint-independent: the same port for every peer\n"
        "    filtering: not known\n"
        "  IPv6: none\n"
        "  hairpinning: no\n"
        "\n"
        "  port mapping\n"
        "     PCP at 192.168.1.1: maps 203.0.113.5:14242 (UDP), for 1 h 1 min, reached from outside\n"
        "     UPnP IGD at 192.168.1.1: there, not needed; it says that it is 203.0.113.5\n"
        "\n"
        "  relays\n"
        f"     {OWN_KEY[:10]}: 192.0.2.9:7, 12.3 ms, holds a place for this node\n"
        "\n"
        "  peers\n"
        f"  ○  node_b: relayed by {OWN_KEY[:10]}, not direct: both NATs are random"
    )


def test_blocked_udp_comes_with_what_to_do() -> None:
    told = rendered(udp="blocked")
    assert "UDP: blocked: no server answers" in told
    assert told.splitlines()[-1].startswith("  let UDP out")
    assert "not known" in rendered(udp="unknown")


@pytest.mark.parametrize(
    ("family", "told"),
    [
        (
            FamilyCheck(6, ["2001:db8::2"], [], "unknown", "unknown"),
            "no server has seen it; here: 2001:db8::2",
        ),
        (FamilyCheck(4, [], ["192.0.2.1:1"], "none", "endpoint-independent"), "none: no NAT"),
        (FamilyCheck(4, [], ["192.0.2.1:1"], "random", "unknown", pool=True), "192.0.2.1:1, one of several"),
        (FamilyCheck(4, [], ["192.0.2.1:1"], "sequential", "unknown"), "sequential"),
        (FamilyCheck(4, [], ["192.0.2.1:1"], "unknown", "address-dependent"), "only who this node wrote to"),
    ],
)
def test_each_family_says_what_is_known(family: FamilyCheck, told: str) -> None:
    assert told in rendered(families=[family])


@pytest.mark.parametrize(
    ("mappings", "told"),
    [
        ([], "are being asked"),
        ([MappingCheck("PCP", 4, GATEWAY, "absent")], "are being asked"),
        ([MappingCheck("PCP", 4, GATEWAY, "refuses", trouble="not authorized")], "refuses: not authorized"),
        (
            [MappingCheck("UPnP IGD", 4, GATEWAY, "maps", "tcp", "192.0.2.1:1")],
            "maps 192.0.2.1:1 (TCP), without end, not tried from outside",
        ),
        (
            [MappingCheck("PCP", 6, "fe80::1", "maps", "udp", "[2001:db8::2]:1", 90.0)],
            "lets in [2001:db8::2]:1 (UDP), for 1 min 30 s, not reached from outside so far",
        ),
    ],
)
def test_port_mappings_while_gateways_are_being_asked(mappings: list[MappingCheck], told: str) -> None:
    assert told in rendered(port_mappings=mappings, searching=True)


def test_gateways_that_do_not_answer_are_told_with_what_they_were_asked() -> None:
    absent = [MappingCheck(protocol, 4, GATEWAY, "absent") for protocol in ("PCP", "NAT-PMP", "UPnP IGD")]
    assert f"{GATEWAY}: no answer by PCP, NAT-PMP, UPnP IGD" in rendered(port_mappings=absent)
    assert "no gateway was asked" in rendered(port_mappings=[], gateways=[])


def test_peers_and_relays_that_are_not_there() -> None:
    told = rendered(relays=[], peers=[PeerCheck(PEER_KEY, None, "idle", None, None)])
    assert "none is known" in told
    assert f"{PEER_KEY[:10]}: no path" in told
    assert "peers" not in rendered(peers=[])


def test_nothing_of_it_can_drive_the_terminal() -> None:
    evil = MappingCheck("PCP", 4, "\x1b]0;x\x07", "refuses", trouble="\x1b[2J")
    told = rendered(
        port_mappings=[evil],
        hostname="\x1b[31m",
        peers=[PeerCheck(PEER_KEY, "\x9b1m", "relayed", None, "\x1bc")],
    )
    assert "\x1b" not in told
    assert "\x9b" not in told
