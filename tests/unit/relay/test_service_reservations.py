"""Who gets a reservation at a relay, where, and for how long."""

from __future__ import annotations

import pytest
from engine_parts import Driver, at, received
from relaying_node import (
    MEMBERS,
    PATH_A,
    PATH_B,
    POLICY,
    A,
    B,
    Relay,
    closed,
    network_path,
    replies,
    sent,
    stranger,
)

from wh.config.model import Network, RelayPolicy
from wh.engine.commands import (
    CloseRelay,
    Reply,
    SetRelayLimits,
)
from wh.engine.events import Path
from wh.relay.admission import WAITING_MAX
from wh.relay.service import RelayService
from wh.relay.tables import (
    RESERVATIONS_MAX,
    RESERVATIONS_OF_ADDRESS,
    RESERVATIONS_OF_NETWORK,
    TTL_MAX_S,
)
from wh.wire.address import pack
from wh.wire.messages import (
    Challenge,
    Close,
    CloseReason,
    Open,
    RelayStatus,
    Reserve,
    Reserved,
    Response,
)


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
    assert len(relay.service._admission._waiting) == WAITING_MAX


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
