"""The channels of a relay: opened, told of, ended; and what follows from the network file."""

from __future__ import annotations

from engine_parts import OWN_KEY, at, received
from relaying_node import (
    MEMBERS,
    NETWORK,
    NOWHERE,
    PATH_A,
    PATH_B,
    PATH_C,
    POLICY,
    A,
    B,
    C,
    Relay,
    closed,
    network_path,
    replies,
    sent,
    stranger,
)

from wh.config.model import Network, Peer, PeerKind, RelayPolicy
from wh.engine.commands import (
    CloseRelay,
    Command,
    LimitRelay,
    OpenRelay,
)
from wh.engine.events import RelayEnded, RelayOpened
from wh.relay.tables import (
    BAR_S,
    RESERVATIONS_MAX,
)
from wh.wire.messages import (
    Close,
    CloseReason,
    Open,
    Opened,
    RelayStatus,
    Reserved,
)


def test_both_ends_are_told_of_a_channel(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    reply, commands = relay.open(A, PATH_A, B)
    ((target, offer),) = sent(commands)
    assert (reply.status, reply.peer, reply.observed) == (RelayStatus.OK, B, NOWHERE)
    assert isinstance(offer, Opened)
    assert (target, offer.request_id, offer.peer, offer.observed) == (B, 0, A, NOWHERE)
    assert reply.channel != offer.channel
    (order,) = [command for command in commands if isinstance(command, OpenRelay)]
    assert order == OpenRelay(order.request, PATH_A, PATH_B, POLICY.rate, 250_000, 0, trusted=False)


def test_where_the_ends_are_they_hear_when_both_have_asked(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    leg_a, leg_b = relay.channel(A, PATH_A, B)
    assert relay.open(A, PATH_A, B)[0].observed == NOWHERE
    reply, commands = relay.agree(B, PATH_B, A)
    assert (reply.channel, reply.peer, reply.observed) == (leg_b, A, PATH_A.remote)
    assert sent(commands) == [(A, Opened(0, RelayStatus.OK, leg_a, B, PATH_B.remote))]
    assert sent(relay.wait(0.5)) == sent(commands)  # it may get lost
    assert relay.open(A, PATH_A, B)[0].observed == PATH_B.remote


def test_a_stranger_hears_of_nobody_where_it_is(relay: Relay) -> None:
    """Not at once, not later, not before a bar and not after it, whoever it is and however often it asks."""
    relay.reserve(B, PATH_B)
    told = []
    for number in range(20):
        opener, path = stranger(10 + number), network_path(10 + number)
        leg_b = relay.channel(opener, path, B)[1]
        told += [relay.open(opener, path, B)[0] for _ in range(3)]
        told += [message for peer, message in sent(relay.wait(3)) if peer == opener]
        relay.hear(B, Close(0, leg_b, CloseReason.UNWANTED), PATH_B)
        told.append(relay.open(opener, path, B)[0])
    assert all(PATH_B.remote[:16] not in bytes(str(each), "latin1") for each in told)
    assert {each.observed for each in told if isinstance(each, Opened)} == {NOWHERE}


def test_members_have_no_limit_among_themselves(relay: Relay) -> None:
    one, other = MEMBERS
    relay.reserve(other, PATH_B)
    _, commands = relay.open(one, PATH_A, other)
    (order,) = [command for command in commands if isinstance(command, OpenRelay)]
    assert order == OpenRelay(order.request, PATH_A, PATH_B, trusted=True)


def test_a_member_and_a_stranger_have_the_limits_of_strangers(relay: Relay) -> None:
    relay.reserve(MEMBERS[0], PATH_B)
    _, commands = relay.open(A, PATH_A, MEMBERS[0])
    (order,) = [command for command in commands if isinstance(command, OpenRelay)]
    assert (order.rate, order.trusted) == (POLICY.rate, False)


def test_the_target_hears_again_until_it_agrees(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    relay.channel(A, PATH_A, B)
    assert [peer for peer, _ in sent(relay.wait(0.5))] == [B]
    relay.agree(B, PATH_B, A)
    assert {peer for peer, _ in sent(relay.wait(30))} == {A}


def test_a_target_without_reservation_is_unknown(relay: Relay) -> None:
    assert relay.open(A, PATH_A, B)[0] == Opened(6, RelayStatus.UNKNOWN)
    relay.reserve(A, PATH_A)
    assert relay.open(A, PATH_A, A)[0].status == RelayStatus.UNKNOWN
    assert relay.open(A, PATH_A, OWN_KEY)[0].status == RelayStatus.UNKNOWN


def test_a_full_data_plane_says_so(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    relay.room = False
    assert relay.open(A, PATH_A, B)[0] == Opened(6, RelayStatus.FULL)
    relay.room = True
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.OK


def test_a_repeated_open_gets_the_same_channel(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    leg_a, leg_b = relay.channel(A, PATH_A, B)
    reply, commands = relay.open(A, PATH_A, B)
    assert reply.channel == leg_a
    assert [offer.channel for _, offer in sent(commands) if isinstance(offer, Opened)] == [leg_b]
    assert not any(isinstance(command, OpenRelay) for command in commands)


def test_who_opens_the_other_way_gets_the_channel_that_is_there(relay: Relay) -> None:
    relay.reserve(A, PATH_A)
    relay.reserve(B, PATH_B)
    _, leg_b = relay.channel(A, PATH_A, B)
    reply, commands = relay.open(B, PATH_B, A)
    assert (reply.channel, reply.peer) == (leg_b, A)
    assert [peer for peer, _ in sent(commands)] == [A]


def test_two_who_open_to_each_other_at_once_get_one_channel(relay: Relay) -> None:
    """The data plane's answer to the first comes after the second has asked."""
    for key, path in ((A, PATH_A), (B, PATH_B)):
        relay.reserve(key, path)
    for key, path, target in ((A, PATH_A, B), (B, PATH_B, A)):
        relay.service.handle(received(Open(6, target), path, peer=key), at(0))
    orders = [command for command in relay.take(0) if isinstance(command, OpenRelay)]
    assert len(orders) == 2
    for number, order in enumerate(orders):
        relay.service.opened(RelayOpened(order.request, (10 * number + 1, 10 * number + 2)), at(0))
    commands = relay.take(0)
    opened = [reply for reply in replies(commands) if isinstance(reply, Opened)]
    assert [(reply.channel, reply.observed) for reply in opened] == [(1, NOWHERE), (2, PATH_A.remote)]
    assert [command for command in commands if isinstance(command, CloseRelay)] == [CloseRelay(11)]


def test_an_opener_that_the_target_did_not_want_stays_away_for_ten_minutes(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    leg_a, leg_b = relay.channel(A, PATH_A, B)
    commands = relay.hear(B, Close(0, leg_b, CloseReason.UNWANTED), PATH_B)
    assert closed(commands) == {A: Close(0, leg_a, CloseReason.UNWANTED)}
    assert CloseRelay(leg_a) in commands
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.BARRED
    assert relay.open(C, PATH_C, B)[0].status == RelayStatus.OK
    relay.wait(BAR_S + 1)
    relay.reserve(B, PATH_B)
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.OK


def test_an_opener_cannot_bar_its_target(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    relay.reserve(A, PATH_A)
    leg_a, leg_b = relay.channel(A, PATH_A, B)
    commands = relay.hear(A, Close(0, leg_a, CloseReason.UNWANTED), PATH_A)
    assert closed(commands) == {B: Close(0, leg_b, CloseReason.DONE)}
    assert relay.open(B, PATH_B, A)[0].status == RelayStatus.OK


def test_nobody_closes_the_channel_of_others(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    leg_a, leg_b = relay.channel(A, PATH_A, B)
    assert relay.hear(C, Close(0, leg_a), PATH_C) == []
    assert relay.hear(A, Close(0, leg_b), PATH_A) == []
    assert relay.hear(A, Close(0, leg_a), PATH_A) != []


def test_a_channel_that_was_silent_is_ended_at_both_ends(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    leg_a, leg_b = relay.channel(A, PATH_A, B)
    relay.service.ended(RelayEnded(((leg_a, leg_b), (77, 78))))
    expected = {A: Close(0, leg_a, CloseReason.SILENT), B: Close(0, leg_b, CloseReason.SILENT)}
    assert closed(relay.settle()) == expected


def test_a_client_that_leaves_takes_its_channels_along(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    leg_a, _ = relay.channel(A, PATH_A, B)
    relay.service.left(B)
    commands = relay.settle()
    assert closed(commands) == {A: Close(0, leg_a, CloseReason.GONE)}
    assert CloseRelay(leg_a) in commands
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.UNKNOWN


def limits(commands: list[Command]) -> list[LimitRelay]:
    return [command for command in commands if isinstance(command, LimitRelay)]


def test_the_channel_of_a_member_that_is_revoked_has_the_limits_of_strangers(relay: Relay) -> None:
    one, other = MEMBERS
    relay.reserve(other, PATH_B)
    leg, _ = relay.channel(one, PATH_A, other)
    rest = Network(peers=(Peer(PeerKind.TRUST, other),), relay=POLICY)
    assert limits(relay.load(rest)) == [LimitRelay(leg, POLICY.rate, 250_000, trusted=False)]
    assert limits(relay.load(rest)) == []
    assert limits(relay.load(NETWORK)) == [LimitRelay(leg, 0, 0, trusted=True)]


def test_channels_follow_what_the_operator_allows(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    leg, _ = relay.channel(A, PATH_A, B)
    less = RelayPolicy(rate=1000, total_rate=POLICY.total_rate, day_quota=POLICY.day_quota)
    commands = relay.load(Network(peers=NETWORK.peers, relay=less))
    assert limits(commands) == [LimitRelay(leg, 1000, 128 * 1024, trusted=False)]


def test_reservations_of_members_that_are_revoked_count_as_those_of_strangers() -> None:
    members = [stranger(1000 + number) for number in range(RESERVATIONS_MAX)]
    relay = Relay(Network(peers=tuple(Peer(PeerKind.TRUST, key) for key in members), relay=POLICY))
    for number, key in enumerate(members):
        assert relay.reserve(key, network_path(7, port=number + 1)).status == RelayStatus.OK
    for number in range(RESERVATIONS_MAX):
        assert relay.reserve(stranger(number), network_path(number + 10)).status == RelayStatus.OK
    commands = relay.load(NETWORK)
    told = [(peer, message) for peer, message in sent(commands) if isinstance(message, Reserved)]
    assert {message for _, message in told} == {Reserved(0, RelayStatus.FULL)}
    assert set(members) - {peer for peer, _ in told} == {members[0]}
    assert relay.service.served()[0] == RESERVATIONS_MAX


def test_nothing_of_a_client_is_kept_once_it_has_nothing(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    leg_a, _ = relay.channel(A, PATH_A, B)
    relay.hear(A, Close(0, leg_a), PATH_A)
    relay.reserve(B, PATH_B, ttl=0)
    assert relay.service._tables.clients() == ()
    assert relay.service._tables.by_leg(leg_a) is None
