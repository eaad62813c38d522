"""A relay follows its clients to where they prove that they are."""

from __future__ import annotations

import pytest
from relaying_node import (
    MEMBERS,
    PATH_A,
    PATH_B,
    PATH_C,
    A,
    B,
    C,
    Relay,
    network_path,
    sent,
    stranger,
)

from wh.engine.commands import (
    Command,
    MoveRelay,
    OpenRelay,
    Send,
)
from wh.engine.events import TCP, Key, Path
from wh.wire.address import pack
from wh.wire.messages import (
    Challenge,
    ChallengeWant,
    Reserve,
    Response,
)


def moves(commands: list[Command]) -> set[tuple[int, Path]]:
    return {(command.leg, command.path) for command in commands if isinstance(command, MoveRelay)}


NEW_PATH = Path(0, pack("198.51.100.77", 4000))


@pytest.mark.parametrize(("opener", "target"), [(A, B), tuple(MEMBERS)])
def test_a_client_is_followed_to_where_it_reserves(relay: Relay, opener: Key, target: Key) -> None:
    relay.reserve(target, PATH_B)
    _, leg = relay.channel(opener, PATH_A, target)
    _, other_leg = relay.channel(C, PATH_C, target)
    relay.be(target, NEW_PATH)
    commands = relay.hear(target, Reserve(5, 3600), NEW_PATH)
    assert moves(commands) == {(leg, NEW_PATH), (other_leg, NEW_PATH)}
    _, commands = relay.open(stranger(50), network_path(50), target)
    (order,) = [command for command in commands if isinstance(command, OpenRelay)]
    assert order.target == NEW_PATH


def forwarded(relay: Relay) -> Challenge:
    """B has a channel, and its RESERVE arrives from elsewhere. Returns what B is asked where it was."""
    relay.reserve(B, PATH_B)
    relay.channel(A, PATH_A, B)
    relay.be(B, NEW_PATH)
    commands = relay.hear(B, Reserve(5, 3600), NEW_PATH)
    asked = [each for each in commands if isinstance(each, Send) and isinstance(each.message, Challenge)]
    assert [(each.peer, each.path) for each in asked] == [(B, PATH_B)]
    challenge = asked[0].message
    assert isinstance(challenge, Challenge)
    assert challenge.want == ChallengeWant.RELAY
    return challenge


def test_a_client_that_still_is_where_it_was_goes_back(relay: Relay) -> None:
    """Somebody has copied its RESERVE, and was faster."""
    challenge = forwarded(relay)
    leg = relay.service._tables.between(A, B).leg_of(B)  # type: ignore[union-attr]
    commands = relay.hear(B, Response(challenge.request_id, challenge.nonce), PATH_B)
    assert moves(commands) == {(leg, PATH_B)}
    assert moves(relay.hear(B, Reserve(5, 3600), NEW_PATH)) == set()  # not so easily again
    assert moves(relay.wait(3)) == {(leg, NEW_PATH)}  # it has fallen silent there


def test_a_client_that_moves_on_meanwhile_is_followed(relay: Relay) -> None:
    forwarded(relay)
    relay.be(B, PATH_C)
    assert {path for _, path in moves(relay.hear(B, Reserve(5, 3600), PATH_C))} == {PATH_C}
    assert {path for _, path in moves(relay.wait(3))} <= {PATH_C}


def test_a_client_that_comes_back_from_tcp_is_not_asked_there(relay: Relay) -> None:
    over_tcp = Path(TCP, pack("198.51.100.77", 4000))
    relay.reserve(B, over_tcp)
    relay.be(B, PATH_B)
    assert sent(relay.hear(B, Reserve(5, 3600), PATH_B)) == []


def test_another_way_to_the_client_is_no_move(relay: Relay) -> None:
    """It measures its NAT with a second socket, say."""
    relay.reserve(B, PATH_B)
    relay.channel(A, PATH_A, B)
    relay.be(B, NEW_PATH)
    assert moves(relay.settle()) == set()


def test_an_opener_says_where_it_is_by_opening_again(relay: Relay) -> None:
    one, other = MEMBERS
    relay.reserve(other, PATH_B)
    leg, _ = relay.channel(one, PATH_A, other)
    relay.be(one, NEW_PATH)
    reply, commands = relay.open(one, NEW_PATH, other)
    assert reply.channel == leg
    assert moves(commands) == {(leg, NEW_PATH)}
