"""The node as a whole, from its first commands to its last. Longer stories are in tests/sim."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from engine_parts import OTHER_ADDRESS, OWN_ADDRESS, OWN_KEY, PEER_ADDRESS, PEER_KEY, at

from wh.config.model import Endpoint, Network, Peer, PeerKind
from wh.engine.commands import Command, Notify, ResetSession, Send
from wh.engine.events import (
    ForgetRequested,
    LocalAddresses,
    LookupRequested,
    MessageReceived,
    NameResolved,
    NetworkLoaded,
    Path,
    PathWanted,
    PingRequested,
    ReplyToken,
    RequestCancelled,
    SessionOpened,
    Stopping,
)
from wh.engine.inquiry import INQUIRIES_MAX
from wh.node.node import Node
from wh.node.twins import OVERLAP_S
from wh.wire.address import pack
from wh.wire.messages import Capability, Leaving, Ping, Pong

BOOT_KEY = bytes(31) + b"\x07"
BOOT_PATH = Path(0, OTHER_ADDRESS)
TRUST = Peer(PeerKind.TRUST, PEER_KEY)
BOOT = Peer(PeerKind.BOOT, BOOT_KEY, endpoint=Endpoint("203.0.113.3"))
LOCAL = LocalAddresses(((0, 4),), (OWN_ADDRESS,))


def make_node(mode: str = "unknown") -> Node:
    return Node(
        OWN_KEY,
        rng=random.Random(1),
        sign=lambda message: bytes(64),
        verify=lambda key, message, signature: True,
        mode=mode,
    )


def run(node: Node, seconds: float, begin: float = 0.0) -> list[tuple[float, Command]]:
    """Tick at every deadline."""
    log: list[tuple[float, Command]] = []
    while (when := node.next_deadline()) is not None and when <= at(begin + seconds).monotonic:
        elapsed = max(begin, when - at(0).monotonic)
        log += [(elapsed, command) for command in node.tick(at(elapsed))]
    return log


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_bootstraps_are_pinged_as_soon_as_sockets_and_file_are_there(order: tuple[int, int]) -> None:
    node = make_node()
    events = (LOCAL, NetworkLoaded(Network(peers=(BOOT,))))
    commands = [command for index in order for command in node.handle(events[index], at(0))]
    (ping,) = [command for command in commands if isinstance(command, Send)]
    assert (ping.peer, ping.path) == (BOOT_KEY, BOOT_PATH)
    assert isinstance(ping.message, Ping)


def test_a_silent_bootstrap_is_asked_ever_more_rarely_but_at_least_each_quarter_of_a_minute() -> None:
    node = make_node()
    node.handle(LOCAL, at(0))
    node.handle(NetworkLoaded(Network(peers=(BOOT,))), at(0))
    pings = [(when, each.message) for when, each in run(node, 600) if isinstance(each, Send)]
    first_sends = list({message: when for when, message in reversed(pings)}.values())[::-1]
    gaps = [later - earlier for earlier, later in pairwise([0.0, *sorted(first_sends)[1:]])]
    assert gaps[0] < 1
    assert 12 < max(gaps) <= 17
    assert len(first_sends) < 60


def test_nothing_is_sent_before_there_are_sockets() -> None:
    node = make_node()
    commands = node.handle(NetworkLoaded(Network(peers=(BOOT, TRUST))), at(0))
    commands += [command for _, command in run(node, 30)]
    assert not [command for command in commands if isinstance(command, Send)]


def test_a_file_endpoint_of_a_trusted_peer_is_tried_at_once() -> None:
    node = make_node()
    peer = Peer(PeerKind.TRUST, PEER_KEY, endpoint=Endpoint("198.51.100.2"))
    node.handle(LOCAL, at(0))
    commands = node.handle(NetworkLoaded(Network(peers=(peer,))), at(0))
    assert [(each.peer, each.path.remote) for each in commands if isinstance(each, Send)] == [
        (PEER_KEY, PEER_ADDRESS)
    ]


def test_events_about_strangers_have_no_effect() -> None:
    node = make_node()
    node.handle(LOCAL, at(0))
    for event in (PathWanted(PEER_KEY), RequestCancelled(5), Stopping()):
        assert node.handle(event, at(1)) == []


def test_a_message_that_claims_to_be_from_ourselves_is_ignored() -> None:
    node = make_node()
    node.handle(LOCAL, at(0))
    token = ReplyToken(OWN_KEY, BOOT_PATH, 1)
    event = MessageReceived(OWN_KEY, BOOT_PATH, Ping(1, 0, 0, bytes(8)), token, True, 100)
    assert node.handle(event, at(1)) == []


def test_leaving_is_said_in_every_session() -> None:
    node = make_node()
    node.handle(LOCAL, at(0))
    for number in (1, 2):
        key, path = bytes(31) + bytes((number + 20,)), Path(0, OTHER_ADDRESS[:17] + bytes((number,)))
        node.handle(SessionOpened(key, path, False), at(0))
    commands = node.handle(Stopping(), at(1))
    assert [each.message for each in commands if isinstance(each, Send)] == [Leaving(), Leaving()]


def test_forgetting_a_stranger_ends_its_session() -> None:
    assert make_node().handle(ForgetRequested(PEER_KEY), at(0)) == [ResetSession(PEER_KEY)]


def finals(commands: list[Command]) -> dict[int, dict[str, Any]]:
    return {each.request: each.body for each in commands if isinstance(each, Notify) and each.final}


def test_questions_without_any_server_are_answered_and_not_left_open() -> None:
    node = make_node()
    node.handle(LOCAL, at(0))
    commands = node.handle(LookupRequested(1, PEER_KEY), at(0))
    commands += node.handle(PingRequested(2, PEER_KEY), at(0))
    commands += [command for _, command in run(node, 1)]
    bodies = finals(commands)
    assert not bodies[1]["found"]
    assert bodies[2]["error"]["code"] == "WH320"


def test_a_peer_that_does_not_answer_its_ping_gives_an_error_with_a_hint() -> None:
    node = make_node()
    peer = Peer(PeerKind.PEER, PEER_KEY, endpoint=Endpoint("198.51.100.2"))
    node.handle(LOCAL, at(0))
    node.handle(NetworkLoaded(Network(peers=(peer,))), at(0))
    node.handle(PingRequested(1, PEER_KEY), at(0))
    (body,) = finals([command for _, command in run(node, 10)]).values()
    assert body["error"]["code"] == "WH321"
    assert body["error"]["hint"]


def test_a_cancelled_question_gets_no_answer_and_frees_its_place() -> None:
    node = make_node()
    node.handle(LOCAL, at(0))
    commands: list[Command] = []
    for number in range(INQUIRIES_MAX + 1):
        commands += node.handle(LookupRequested(number, PEER_KEY), at(0))
    assert list(finals(commands)) == [INQUIRIES_MAX]
    for number in range(INQUIRIES_MAX):
        node.handle(RequestCancelled(number), at(0))
    assert finals([command for _, command in run(node, 5)]) == {}


@pytest.mark.parametrize(
    ("mode", "kind", "server"),
    [
        ("unknown", PeerKind.TRUST, False),
        ("unknown", PeerKind.BOOT, True),
        ("direct", PeerKind.TRUST, True),
        ("nat", PeerKind.BOOT, False),
    ],
)
def test_mode_and_file_say_who_is_a_server(mode: str, kind: PeerKind, server: bool) -> None:
    node = make_node(mode)
    ourselves = Peer(kind, OWN_KEY, endpoint=Endpoint("192.0.2.1"))
    node.handle(LOCAL, at(0))
    node.handle(NetworkLoaded(Network(peers=(ourselves, BOOT))), at(0))
    snapshot = node.snapshot()
    assert snapshot.server is server
    assert [each.confirmed for each in snapshot.candidates] == [server]
    assert snapshot.peers == ()
    assert not snapshot.joined


def test_a_bootstrap_with_two_families_says_how_it_sees_us_in_both() -> None:
    node = make_node()
    v4, v6 = pack("198.51.100.9", 62096), pack("2001:db8::9", 62096)
    boot = Peer(PeerKind.BOOT, BOOT_KEY, endpoint=Endpoint("boot.example"))
    seen = {4: pack("203.0.113.7", 1234), 6: pack("2001:db8:7::7", 62096)}
    node.handle(LocalAddresses(((0, 4), (1, 6)), (pack("192.168.1.2", 62096), seen[6])), at(0))
    node.handle(NetworkLoaded(Network(peers=(boot,))), at(0))
    commands = node.handle(NameResolved("boot.example", 62096, (v6, v4)), at(0))
    node.handle(SessionOpened(BOOT_KEY, Path(1, v6), False), at(0))
    for seconds in (0.1, 0.5, 1.2, 1.5, 2.0):
        for command in commands:
            if isinstance(command, Send) and isinstance(command.message, Ping):
                version = 6 if command.path.remote == v6 else 4
                pong = Pong(
                    command.message.request_id, seen[version], Capability.SERVER, 0, 0, command.message.nonce
                )
                token = ReplyToken(BOOT_KEY, command.path, None)
                node.handle(MessageReceived(BOOT_KEY, command.path, pong, token, False, 1000), at(seconds))
        commands = node.tick(at(seconds))
    assert [each.observed for each in node.surroundings().behaviours] == [(seen[4],), (seen[6],)]
    assert node.surroundings().answered
    node.handle(LocalAddresses(((0, 4), (1, 6)), (pack("192.168.7.2", 62096),)), at(3))
    assert not node.surroundings().answered, "nobody has, since we are somewhere else"
    commands = node.handle(LocalAddresses(((0, 4), (1, 6)), (seen[6],)), at(4))
    asked = {command.path.remote for command in commands if isinstance(command, Send)}
    assert v6 in asked, "whose other address leads nowhere from here"
    assert [contact.endpoint for contact in node.snapshot().contacts] == [v6]


@pytest.mark.parametrize("line", [TRUST, BOOT])
def test_a_key_that_leaves_the_file_begins_anew_as_a_stranger(line: Peer) -> None:
    """Its session was let in without the work that a stranger's key must show."""
    node = make_node()
    node.handle(LOCAL, at(0))
    node.handle(NetworkLoaded(Network(peers=(TRUST, BOOT))), at(0))
    node.handle(SessionOpened(line.key, Path(0, PEER_ADDRESS), False), at(1))
    rest = tuple(peer for peer in (TRUST, BOOT) if peer != line)
    commands = node.handle(NetworkLoaded(Network(peers=rest)), at(2))
    assert ResetSession(line.key) in commands
    known = node.parts.engine.peers.obtain(line.key)
    assert not known.session
    assert not known.is_validated(Path(0, PEER_ADDRESS), at(2))
    assert ResetSession(line.key) not in node.handle(NetworkLoaded(Network(peers=rest)), at(3))


def test_a_node_whose_key_is_used_twice_is_heard_by_its_peers() -> None:
    """Where a peer PINGs often, the two runs have no reason to, and answers say nothing of a run."""
    node, path = make_node(), Path(0, PEER_ADDRESS)
    peer = Peer(PeerKind.TRUST, PEER_KEY, endpoint=Endpoint("198.51.100.2"))
    commands = node.handle(LOCAL, at(0)) + node.handle(NetworkLoaded(Network(peers=(BOOT, peer))), at(0))
    commands += node.handle(SessionOpened(PEER_KEY, path, False), at(0)) + node.handle(
        PathWanted(PEER_KEY), at(0)
    )
    pinged: list[int] = []
    told: list[int] = []
    for second in range(1, 90):
        last, commands = commands, []
        for each in last:
            if not isinstance(each, Send) or not isinstance(each.message, Ping):
                continue
            doubled = each.peer == BOOT_KEY and second > 30
            asked = each.message
            pong = Pong(asked.request_id, OWN_ADDRESS, Capability.SERVER, 0, 0, asked.nonce, 0, doubled)
            token = ReplyToken(each.peer, each.path, None)
            commands += node.handle(
                MessageReceived(each.peer, each.path, pong, token, False, 1000), at(second)
            )
            pinged += [second] if each.peer == PEER_KEY else []
        ping = MessageReceived(
            PEER_KEY, path, Ping(second, 0, 0, bytes(8)), ReplyToken(PEER_KEY, path, 1), False, 100
        )
        commands += node.handle(ping, at(second)) + node.tick(at(second))
        told += [second] if node.twins() else []
    assert not [when for when in pinged if 1 < when <= told[0]]
    after = [when - told[0] for when in pinged if when > told[0]]
    assert after[0] <= 2
    assert any(OVERLAP_S < each <= 13 for each in after), "later than the other one's first"
