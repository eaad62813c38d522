from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine_parts import OWN_KEY, Driver, at, received

from wh.config.model import Network, Peer, PeerKind, RelayPolicy
from wh.engine.commands import (
    CloseRelay,
    Command,
    LimitRelay,
    MoveRelay,
    OpenRelay,
    Reply,
    Send,
    SetRelayLimits,
)
from wh.engine.events import TCP, Key, Path, RelayEnded, RelayOpened
from wh.relay import tables as server
from wh.relay.service import NETWORK_BURST, REQUESTS_BURST, WAITING_MAX, RelayService
from wh.relay.tables import (
    BAR_S,
    CHANNELS_OF_OPENER,
    RESERVATIONS_MAX,
    RESERVATIONS_OF_ADDRESS,
    RESERVATIONS_OF_NETWORK,
    TTL_MAX_S,
    UNAGREED_OF_TARGET,
    UNAGREED_PATIENCE_S,
)
from wh.wire.address import pack
from wh.wire.messages import (
    Challenge,
    ChallengeWant,
    Close,
    CloseReason,
    Message,
    Open,
    Opened,
    RelayStatus,
    Reserve,
    Reserved,
    Response,
)

MEMBERS = [bytes((0x11, number)) + bytes(30) for number in range(2)]
POLICY = RelayPolicy(rate=1_000_000, total_rate=10_000_000, day_quota=10**11)
NETWORK = Network(peers=tuple(Peer(PeerKind.TRUST, key) for key in MEMBERS), relay=POLICY)
LEGS = iter(range(1, 10**6))
NOWHERE = bytes(18)


def stranger(number: int) -> Key:
    return bytes((0x22, number & 0xFF, number >> 8)) + bytes(29)


def network_path(number: int, port: int = 1000) -> Path:
    """Each number is a /16 of its own."""
    return Path(0, pack(f"{20 + number // 200}.{number % 200 + 1}.0.1", port))


class Relay(Driver):
    """The service with a forwarder that has room for everybody, and clients wherever they prove to be."""

    def __init__(self, network: Network = NETWORK) -> None:
        super().__init__()
        self.reachable = True
        self.room = True
        self.service = RelayService(self.engine, self.requests, lambda: self.reachable)
        self.now = 0.0
        self.service.set_network(network, at(0))
        self.setup = self.take(0)

    def load(self, network: Network) -> list[Command]:
        self.service.set_network(network, at(self.now))
        return self.settle()

    def be(self, client: Key, path: Path) -> None:
        self.requests.validated(self.engine.peers.obtain(client), path, at(self.now))

    def hear(self, client: Key, message: Message, path: Path) -> list[Command]:
        """As Node does, and the data plane that opens what it is told to."""
        event = received(message, path, peer=client)
        self.engine.peers.obtain(client).session = True
        if self.requests.take_answer(event, at(self.now)):
            pass
        elif isinstance(message, Close):
            self.service.closed_by(event, message, at(self.now))
        else:
            self.service.handle(event, at(self.now))
        return self.settle()

    def settle(self) -> list[Command]:
        commands = self.take(self.now)
        for command in list(commands):
            if isinstance(command, OpenRelay):
                legs = (next(LEGS), next(LEGS)) if self.room else None
                self.service.opened(RelayOpened(command.request, legs), at(self.now))
                commands += self.take(self.now)
        return commands

    def wait(self, seconds: float) -> list[Command]:
        self.now += seconds
        return self.run_to(self.now)

    def reserve(self, client: Key, path: Path, ttl: int = 3600) -> Reserved:
        self.be(client, path)
        (reply,) = replies(self.hear(client, Reserve(5, ttl), path))
        assert isinstance(reply, Reserved)
        assert reply.request_id == 5
        return reply

    def open(self, opener: Key, path: Path, target: Key) -> tuple[Opened, list[Command]]:
        self.be(opener, path)
        commands = self.hear(opener, Open(6, target), path)
        (reply,) = replies(commands)
        assert isinstance(reply, Opened)
        assert reply.request_id == 6
        return reply, commands

    def agree(self, target: Key, path: Path, opener: Key) -> tuple[Opened, list[Command]]:
        """The target asks for the channel that was opened to it."""
        return self.open(target, path, opener)

    def channel(self, opener: Key, path: Path, target: Key) -> tuple[int, int]:
        """Opened; returns the legs of opener and target."""
        reply, commands = self.open(opener, path, target)
        assert reply.status == RelayStatus.OK
        ((_, offer),) = sent(commands)
        assert isinstance(offer, Opened)
        return reply.channel, offer.channel


def replies(commands: list[Command]) -> list[Message]:
    return [command.message for command in commands if isinstance(command, Reply)]


def sent(commands: list[Command]) -> list[tuple[Key, Message]]:
    return [(command.peer, command.message) for command in commands if isinstance(command, Send)]


def closed(commands: list[Command]) -> dict[Key, Close]:
    return {peer: message for peer, message in sent(commands) if isinstance(message, Close)}


A, B, C = stranger(1), stranger(2), stranger(3)
PATH_A, PATH_B, PATH_C = network_path(1), network_path(2), network_path(3)


@pytest.fixture
def relay() -> Relay:
    return Relay()


# Reservations


def test_anybody_whose_address_is_proved_gets_a_reservation(relay: Relay) -> None:
    assert relay.reserve(A, PATH_A, ttl=600) == Reserved(5, RelayStatus.OK, 600, POLICY.rate, 0)
    assert relay.reserve(MEMBERS[0], PATH_B) == Reserved(5, RelayStatus.OK, 3600, 0, 0)


def test_a_reservation_is_never_longer_than_an_hour(relay: Relay) -> None:
    assert relay.reserve(A, PATH_A, ttl=0xFFFF).ttl == TTL_MAX_S


def test_the_limits_of_all_strangers_together_go_to_the_data_plane(relay: Relay) -> None:
    assert relay.setup == [SetRelayLimits(POLICY.total_rate, 2_500_000, POLICY.day_quota)]
    assert Relay(Network(relay=RelayPolicy(total_rate=0, day_quota=0))).setup == [SetRelayLimits()]


def test_an_address_has_eight_reservations(relay: Relay) -> None:
    for number in range(RESERVATIONS_OF_ADDRESS):
        assert relay.reserve(stranger(number), network_path(1, port=1000 + number)).status == RelayStatus.OK
    assert relay.reserve(stranger(99), network_path(1, port=99)).status == RelayStatus.FULL
    assert relay.reserve(stranger(0), network_path(1, port=7)).status == RelayStatus.OK  # it renews
    assert relay.reserve(stranger(98), network_path(2)).status == RelayStatus.OK


@pytest.mark.parametrize(
    ("of_one", "limit"),
    [
        (lambda number: pack(f"20.1.{number}.9", 1), RESERVATIONS_OF_NETWORK),
        (lambda number: pack(f"2001:db8:{number:x}::9", 1), RESERVATIONS_OF_NETWORK),
        (lambda number: pack(f"2001:db8:7:{number:x}::9", 1), RESERVATIONS_OF_ADDRESS),
    ],
)
def test_a_network_has_its_share_of_the_reservations(relay: Relay, of_one: object, limit: int) -> None:
    statuses = [
        relay.reserve(stranger(number), Path(0, of_one(number + 1))).status  # type: ignore[operator]
        for number in range(limit + 1)
    ]
    assert statuses == [RelayStatus.OK] * limit + [RelayStatus.FULL]


def test_whoever_holds_most_reservations_makes_room_for_others(relay: Relay) -> None:
    """16 addresses in 4 networks hold all of them, and renew."""
    attackers = {
        stranger(1000 + number): Path(0, pack(f"20.{number % 4}.{number // 4 % 4}.9", 1 + number))
        for number in range(RESERVATIONS_MAX)
    }
    for key, path in attackers.items():
        assert relay.reserve(key, path).status == RelayStatus.OK
    got = []
    for number in range(40):
        got.append(relay.reserve(stranger(number), network_path(200 + number)).status)
        for key, path in list(attackers.items())[number::40]:
            relay.reserve(key, path)
        relay.wait(1)
    assert got == [RelayStatus.OK] * 40
    relay.wait(60)
    kept = [relay.service._tables.has_reservation(stranger(number), relay.now) for number in range(40)]
    assert all(kept)
    assert relay.service.served()[0] == RESERVATIONS_MAX


def test_who_is_crowded_out_is_told(relay: Relay) -> None:
    for number in range(RESERVATIONS_MAX):
        relay.reserve(stranger(number), network_path(number // 2, port=number + 1))
    relay.be(stranger(500), network_path(150))
    commands = relay.hear(stranger(500), Reserve(5, 60), network_path(150))
    ((loser, told),) = sent(commands)
    assert told == Reserved(0, RelayStatus.FULL)
    assert loser == stranger(1)
    assert sent(relay.wait(0.5)) == [(loser, told)]
    assert relay.reserve(loser, network_path(0)).status == RelayStatus.FULL
    assert sent(relay.wait(30)) == [(loser, told)]


def test_the_relay_has_128_reservations_for_strangers_and_any_number_for_members(relay: Relay) -> None:
    for number in range(RESERVATIONS_MAX):
        assert relay.reserve(stranger(number), network_path(number)).status == RelayStatus.OK
    assert relay.reserve(stranger(500), network_path(300)).status == RelayStatus.FULL
    assert relay.reserve(MEMBERS[0], network_path(1)).status == RelayStatus.OK
    relay.reserve(stranger(7), network_path(7), ttl=0)
    assert relay.reserve(stranger(500), network_path(300)).status == RelayStatus.OK


def test_an_unproved_address_gets_one_challenge_and_then_its_answer(relay: Relay) -> None:
    commands = relay.hear(A, Reserve(5, 60), PATH_A)
    ((peer, challenge),) = sent(commands)
    assert peer == A
    assert isinstance(challenge, Challenge)
    assert replies(commands) == []
    commands = relay.hear(A, Response(challenge.request_id, challenge.nonce), PATH_A)
    assert replies(commands) == [Reserved(5, RelayStatus.OK, 60, POLICY.rate, 0)]


def test_no_more_is_sent_to_an_unproved_address_than_came_from_it(relay: Relay) -> None:
    for _ in range(4):
        relay.hear(A, Open(6, B), PATH_A)
        relay.wait(0.1)
    relay.wait(30)
    assert len(relay.send_times()) <= 4
    assert not any(isinstance(command, Reply) for _, command in relay.log)


def test_who_waits_for_his_proof_is_forgotten_when_too_many_do(relay: Relay) -> None:
    for number in range(WAITING_MAX + 10):
        relay.hear(stranger(number), Reserve(5, 60), network_path(number))
    assert len(relay.service._waiting) == WAITING_MAX


def test_a_reservation_ends_with_its_time_and_its_channels_with_it(relay: Relay) -> None:
    relay.reserve(B, PATH_B, ttl=100)
    leg_a, leg_b = relay.channel(A, PATH_A, B)
    commands = relay.wait(101)
    assert closed(commands) == {A: Close(0, leg_a, CloseReason.GONE), B: Close(0, leg_b, CloseReason.GONE)}
    assert CloseRelay(leg_a) in commands
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.UNKNOWN


def test_a_renewed_reservation_lives_on(relay: Relay) -> None:
    relay.reserve(B, PATH_B, ttl=100)
    relay.wait(60)
    relay.reserve(B, PATH_B, ttl=100)
    relay.wait(60)
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.OK


def test_who_is_not_reachable_takes_nobody_new_and_keeps_who_is_there(relay: Relay) -> None:
    relay.reserve(A, PATH_A)
    relay.reachable = False
    assert relay.reserve(B, PATH_B).status == RelayStatus.REFUSED
    assert relay.reserve(A, PATH_A).status == RelayStatus.OK


def test_the_operator_can_switch_it_off_at_any_time(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    leg_a, _ = relay.channel(A, PATH_A, B)
    commands = relay.load(Network(relay=RelayPolicy(offered=False)))
    assert set(closed(commands)) == {A, B}
    assert CloseRelay(leg_a) in commands
    assert relay.reserve(B, PATH_B).status == RelayStatus.REFUSED
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.REFUSED


def test_nothing_is_relayed_before_there_is_a_network_file() -> None:
    driver = Driver()
    service = RelayService(driver.engine, driver.requests, lambda: True)
    driver.requests.validated(driver.engine.peers.obtain(A), PATH_A, at(0))
    service.handle(received(Reserve(5, 60), PATH_A, peer=A), at(0))
    assert replies(driver.take(0)) == [Reserved(5, RelayStatus.REFUSED)]


@pytest.mark.parametrize("inside", [PATH_A._replace(channel=9), PATH_A._replace(socket=1 << 16)])
def test_what_comes_through_a_channel_or_to_another_socket_is_not_answered(
    relay: Relay, inside: Path
) -> None:
    relay.be(A, inside)
    assert relay.hear(A, Reserve(5, 60), inside) == []
    assert relay.hear(A, Open(6, B), inside) == []


# Channels


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


def test_a_stranger_opens_four_channels(relay: Relay) -> None:
    for number in range(CHANNELS_OF_OPENER + 1):
        relay.reserve(stranger(10 + number), network_path(10 + number))
    statuses = [
        relay.open(A, PATH_A, stranger(10 + number))[0].status for number in range(CHANNELS_OF_OPENER + 1)
    ]
    assert statuses == [RelayStatus.OK] * CHANNELS_OF_OPENER + [RelayStatus.FULL]


def test_a_batch_of_opens_gets_no_more_than_one_after_the_other(relay: Relay) -> None:
    relay.be(A, PATH_A)
    for number in range(10):
        relay.reserve(stranger(10 + number), network_path(10 + number))
    for number in range(10):
        relay.service.handle(received(Open(6, stranger(10 + number)), PATH_A, peer=A), at(0))
    answers = [reply.status for reply in replies(relay.settle()) if isinstance(reply, Opened)]
    assert answers.count(RelayStatus.OK) == CHANNELS_OF_OPENER


def test_sixteen_channels_wait_for_a_target(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    for number in range(UNAGREED_OF_TARGET):
        relay.channel(stranger(10 + number), network_path(10 + number), B)
    late, path = stranger(99), network_path(99)
    assert relay.open(late, path, B)[0].status == RelayStatus.FULL
    relay.agree(B, PATH_B, stranger(13))
    assert relay.open(late, path, B)[0].status == RelayStatus.OK


def test_a_channel_that_waits_too_long_makes_room(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    for number in range(UNAGREED_OF_TARGET):
        relay.channel(stranger(10 + number), network_path(10 + number), B)
    relay.wait(UNAGREED_PATIENCE_S)
    reply, commands = relay.open(A, PATH_A, B)
    assert reply.status == RelayStatus.OK
    assert closed(commands).keys() == {stranger(10), B}


def test_channels_that_wait_from_one_network_make_room_for_another(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    for number in range(UNAGREED_OF_TARGET):
        relay.channel(stranger(10 + number), network_path(7, port=number + 1), B)
    reply, commands = relay.open(A, PATH_A, B)
    assert reply.status == RelayStatus.OK
    assert closed(commands)[stranger(10)].reason == CloseReason.CROWDED
    assert relay.open(stranger(99), network_path(7), B)[0].status == RelayStatus.FULL


def test_channels_of_one_network_make_room_for_another(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CHANNELS_OF_STRANGERS", 8)
    for number in range(8):
        relay.reserve(stranger(20 + number), network_path(20 + number))
        relay.channel(stranger(10 + number), network_path(7, port=number + 1), stranger(20 + number))
    for number in range(3):
        relay.agree(stranger(20 + number), network_path(20 + number), stranger(10 + number))
    relay.reserve(B, PATH_B)
    reply, commands = relay.open(A, PATH_A, B)
    assert reply.status == RelayStatus.OK
    assert closed(commands).keys() == {stranger(17), stranger(27)}  # the youngest that nobody agreed to
    assert relay.open(stranger(99), network_path(7), B)[0].status == RelayStatus.FULL


def test_strangers_leave_room_for_the_channels_of_members(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CHANNELS_OF_STRANGERS", 3)
    for target in (B, MEMBERS[1]):
        relay.reserve(target, PATH_B)
    legs = [relay.channel(stranger(10 + number), network_path(10 + number), B) for number in range(3)]
    late, path = stranger(99), network_path(99)
    assert relay.open(late, path, B)[0].status == RelayStatus.FULL
    assert relay.open(MEMBERS[0], PATH_A, MEMBERS[1])[0].status == RelayStatus.OK
    relay.hear(stranger(10), Close(0, legs[0][0]), network_path(10))
    assert relay.open(late, path, B)[0].status == RelayStatus.OK


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


def test_a_flood_of_requests_is_answered_to_its_burst_only(relay: Relay) -> None:
    relay.be(A, PATH_A)
    answers = [reply for _ in range(1000) for reply in replies(relay.hear(A, Open(6, B), PATH_A))]
    assert len(answers) == REQUESTS_BURST


# Clients that move


def test_keys_of_one_network_share_what_is_answered(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    answers = []
    for number in range(200):
        opener, path = stranger(10 + number), network_path(7, port=number + 1)
        relay.be(opener, path)
        answers += replies(relay.hear(opener, Open(6, B), path))
    assert len(answers) == NETWORK_BURST
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.OK


def test_the_bars_of_one_target_push_out_none_of_another(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    relay.hear(B, Close(0, relay.channel(A, PATH_A, B)[1], CloseReason.UNWANTED), PATH_B)
    relay.reserve(C, PATH_C)
    for number in range(5000):
        relay.service._tables.bar(C, stranger(number), relay.now)
    assert relay.open(A, PATH_A, B)[0].status == RelayStatus.BARRED


# The network file changes


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


def test_nothing_of_a_client_is_kept_once_it_has_nothing(relay: Relay) -> None:
    relay.reserve(B, PATH_B)
    leg_a, _ = relay.channel(A, PATH_A, B)
    relay.hear(A, Close(0, leg_a), PATH_A)
    relay.reserve(B, PATH_B, ttl=0)
    assert relay.service._tables.clients() == ()
    assert relay.service._tables.by_leg(leg_a) is None


def test_strangers_in_any_order_never_exceed_a_limit() -> None:
    """Random requests of 60 keys at a few addresses, checked against the tables after each."""
    relay = Relay()
    for seconds, key, target in _random_requests(relay):
        relay.wait(seconds)
        path = network_path(key % 20, port=1000 + key)
        relay.be(stranger(key), path)
        if target is None:
            relay.hear(stranger(key), Reserve(5, 3600), path)
        else:
            relay.hear(stranger(key), Open(6, stranger(target)), path)
        _check(relay)


def _random_requests(relay: Relay) -> Iterator[tuple[float, int, int | None]]:
    rng = relay.engine.rng
    for _ in range(1500):
        number = int(60 * rng.random())
        yield 0.1 * rng.random(), number, None if rng.random() < 0.4 else int(60 * rng.random())


def _check(relay: Relay) -> None:
    tables = relay.service._tables
    for client in tables.clients():
        channels = tables.channels_of(client)
        assert sum(each.opener == client for each in channels) <= CHANNELS_OF_OPENER
        assert sum(each.target == client for each in channels) <= UNAGREED_OF_TARGET
        assert len({each.other(client) for each in channels}) == len(channels)
