"""What `wh health` calls healthy, and why not."""

from __future__ import annotations

from dataclasses import replace

from wh.config.parser import parse
from wh.daemon.reports.health import check_health
from wh.ipc import schema
from wh.node.status import ContactStatus, NodeStatus, PeerStatus, Relayed
from wh.wire.address import pack
from whcore.keys import SecretKey, encode_key

OWN, PEER, SERVER = (SecretKey.generate().public_key for _ in range(3))
AT = pack("192.0.2.7", 62096)
BOOT = f"boot {encode_key(SERVER)} 192.0.2.7\n"
MEMBERS = f"subnet 10.0.42.0/24\ntrust me {encode_key(OWN)}\ntrust node_b {encode_key(PEER)}\n"
LONE = NodeStatus(
    key=OWN,
    mode="unknown",
    server=False,
    joined=False,
    nat="",
    translated=None,
    candidates=(),
    published=False,
    peers=(PeerStatus(PEER, "idle", None, None, 0, None, None, (), ""),),
    relays=(),
    contacts=(),
    relayed=Relayed(),
    stored_records=0,
    size_estimate=1,
)
JOINED = replace(LONE, joined=True, contacts=(ContactStatus(SERVER, AT, 1.0, True, True),))


def check(text: str, node: NodeStatus, *, interface_up: bool = True, isolated: bool = False) -> schema.Health:
    return check_health("wh0", parse(text), node, isolated=isolated, interface_up=interface_up)


def kinds(health: schema.Health) -> list[str]:
    assert health.healthy is not bool(health.problems)
    return [problem.kind for problem in health.problems]


def test_a_member_that_a_public_node_answers_is_healthy() -> None:
    told = check(BOOT + MEMBERS, JOINED)
    assert kinds(told) == []
    assert (told.place, told.servers, told.members, told.direct) == ("host", 1, 1, 0)


def test_without_boot_lines_nobody_has_to_answer() -> None:
    assert kinds(check(MEMBERS, LONE)) == []


def test_with_boot_lines_somebody_has_to() -> None:
    assert kinds(check(BOOT + MEMBERS, LONE)) == ["public-nodes"]


def test_over_tcp_a_node_is_as_healthy() -> None:
    told = check(BOOT + MEMBERS, replace(JOINED, tcp_links=(AT,)))
    assert kinds(told) == []
    assert told.over_tcp


def test_an_interface_that_is_down_is_none() -> None:
    assert kinds(check(MEMBERS, LONE, interface_up=False)) == ["interface"]


def test_a_key_on_no_trust_line_is_said_with_the_key() -> None:
    told = check(MEMBERS.replace(encode_key(OWN), encode_key(SERVER)), LONE)
    assert kinds(told) == ["membership"]
    assert encode_key(OWN) in told.problems[0].text


def test_a_key_that_another_node_has_is_said_of_public_nodes_too() -> None:
    for text in (BOOT + MEMBERS, f"boot {encode_key(OWN)} 192.0.2.7\n"):
        told = check(text, replace(JOINED, key_elsewhere=True))
        assert kinds(told) == ["key"]
        assert encode_key(OWN) in told.problems[0].text


def test_a_public_node_needs_neither_interface_nor_others() -> None:
    told = check(f"boot {encode_key(OWN)} 192.0.2.7\n", replace(LONE, peers=()), interface_up=False)
    assert kinds(told) == []
    assert told.place == "none"


def test_an_isolated_interface_is_called_so() -> None:
    assert check(MEMBERS, LONE, isolated=True).place == "isolated"
