"""Members whose hosts take no IPv6 of the overlay: what a node says of itself, and what it believes."""

from __future__ import annotations

import random

import pytest
from engine_parts import OTHER_ADDRESS, OWN_ADDRESS, OWN_KEY, PEER_ADDRESS, PEER_KEY, at

from wh.config.model import Endpoint, Network, Peer, PeerKind
from wh.engine.commands import Command, LeaveOutIpv6, Reply, Send
from wh.engine.events import (
    ForgetRequested,
    LocalAddresses,
    MessageReceived,
    NetworkLoaded,
    OverlayIpv6Changed,
    Path,
    ReplyToken,
    SessionOpened,
)
from wh.node.node import Node
from wh.wire.messages import Capability, Message, Ping, Pong

MEMBER = Peer(PeerKind.TRUST, PEER_KEY, endpoint=Endpoint("198.51.100.2"))
STRANGER = bytes(31) + b"\x09"
PATH = Path(0, PEER_ADDRESS)
LACKING = LeaveOutIpv6(frozenset({PEER_KEY}))
ALL_HAVE_IT = LeaveOutIpv6(frozenset())


@pytest.fixture
def node() -> Node:
    made = Node(
        OWN_KEY,
        rng=random.Random(1),
        sign=lambda message: bytes(64),
        verify=lambda key, message, signature: True,
    )
    made.handle(LocalAddresses(((0, 4),), (OWN_ADDRESS,)), at(0))
    made.handle(NetworkLoaded(Network(peers=(MEMBER,))), at(0))
    return made


def hear(
    node: Node, message: Message, sender: bytes = PEER_KEY, *, first_contact: bool = False
) -> list[Command]:
    path = PATH if sender == PEER_KEY else Path(0, OTHER_ADDRESS)
    token = ReplyToken(sender, path, 1 if first_contact else None)
    return node.handle(MessageReceived(sender, path, message, token, first_contact, 1000), at(1))


def ping(capabilities: int = Capability.NO_IPV6) -> Ping:
    return Ping(1, 0, 0, bytes(8), capabilities)


def told(commands: list[Command]) -> list[Command]:
    return [command for command in commands if isinstance(command, LeaveOutIpv6)]


def pings(commands: list[Command]) -> list[Ping]:
    sent = [command.message for command in commands if isinstance(command, Send)]
    return [message for message in sent if isinstance(message, Ping)]


@pytest.mark.parametrize("message", [ping(), Pong(7, OWN_ADDRESS, Capability.NO_IPV6, 0, 0)])
def test_a_member_that_says_so_in_a_session_is_believed_until_it_says_otherwise(
    node: Node, message: Message
) -> None:
    assert told(hear(node, message)) == [LACKING]
    assert told(hear(node, message)) == []
    assert node.snapshot().peers[0].without_ipv6
    assert told(hear(node, ping(Capability.SERVER))) == [ALL_HAVE_IT]


def test_a_stranger_and_what_may_have_been_recorded_are_not_believed(node: Node) -> None:
    assert told(hear(node, ping(), STRANGER)) == []
    assert told(hear(node, ping(), first_contact=True)) == []


def test_a_member_that_begins_anew_is_asked(node: Node) -> None:
    hear(node, ping())
    assert pings(node.handle(SessionOpened(PEER_KEY, PATH, False), at(2)))


def test_who_is_forgotten_or_no_member_any_more_lacks_nothing(node: Node) -> None:
    hear(node, ping())
    assert told(node.handle(ForgetRequested(PEER_KEY), at(2))) == [ALL_HAVE_IT]
    hear(node, ping())
    assert told(node.handle(NetworkLoaded(Network()), at(3))) == [ALL_HAVE_IT]


def test_a_node_without_ipv6_says_so_in_each_ping_and_pong(node: Node) -> None:
    node.handle(OverlayIpv6Changed(taken=False), at(1))
    (reply,) = [each.message for each in hear(node, ping(0)) if isinstance(each, Reply)]
    assert isinstance(reply, Pong)
    assert reply.capabilities & Capability.NO_IPV6
    sent = pings(node.handle(SessionOpened(PEER_KEY, PATH, True), at(2)))
    assert sent
    assert all(each.capabilities & Capability.NO_IPV6 for each in sent)
    node.handle(OverlayIpv6Changed(taken=True), at(3))
    (reply,) = [each.message for each in hear(node, ping(0)) if isinstance(each, Reply)]
    assert isinstance(reply, Pong)
    assert not reply.capabilities & Capability.NO_IPV6


def test_a_change_is_told_in_every_session_with_a_member(node: Node) -> None:
    """Also where no path was chosen yet."""
    node.handle(SessionOpened(PEER_KEY, PATH, False), at(1))
    node.handle(SessionOpened(STRANGER, Path(0, OTHER_ADDRESS), False), at(1))
    commands = node.handle(OverlayIpv6Changed(taken=False), at(1))
    told_to = [each.peer for each in commands if isinstance(each, Send) and isinstance(each.message, Ping)]
    assert told_to == [PEER_KEY]
