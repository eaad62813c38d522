from __future__ import annotations

import pytest

from wh.nat.behavior import (
    OBSERVATION_LIFETIME_S,
    WITNESSES_MAX,
    Heard,
    NatBehaviour,
    Observations,
    PortUse,
    judge_fresh_socket,
)
from wh.wire.address import Address, pack
from wh.wire.candidates import Filtering, Mapping

A, B = pack("203.0.113.9", 4000), pack("203.0.113.9", 4001)
LOCAL = pack("10.0.0.2", 62096)


def witness(number: int) -> Address:
    return pack(f"{number}.1.2.3", 62096)


def seen_as(*addresses: Address) -> Observations:
    observations = Observations()
    for number, address in enumerate(addresses, 1):
        observations.add(witness(number), address, 0.0)
    return observations


@pytest.mark.parametrize(
    ("observed", "mapping"),
    [
        ((), Mapping.UNKNOWN),
        ((A,), Mapping.UNKNOWN),
        ((A, A), Mapping.UNKNOWN),
        ((A, A, A), Mapping.ENDPOINT_INDEPENDENT),
        ((A, A, A, B), Mapping.ENDPOINT_INDEPENDENT),
        ((A, A, B, B), Mapping.RANDOM),
        ((A, A, B), Mapping.RANDOM),
        ((LOCAL,), Mapping.NONE),
    ],
)
def test_three_equal_answers_of_four_decide_and_fewer_witnesses_decide_nothing(
    observed: tuple[Address, ...], mapping: Mapping
) -> None:
    assert seen_as(*observed).mapping({LOCAL}) is mapping


def test_witnesses_of_one_network_count_once() -> None:
    observations = Observations()
    for last in range(1, 9):
        observations.add(pack(f"192.0.2.{last}", 1), A, 0.0)
    assert observations.mapping(set()) is Mapping.UNKNOWN


def test_one_witness_that_sees_us_elsewhere_moves_nothing_and_two_do() -> None:
    observations = seen_as(A, A, A)
    assert observations.add(witness(1), A, 1.0) is Heard.NOTHING_NEW
    assert observations.add(witness(2), B, 2.0) is Heard.DOUBT
    assert observations.addresses() == [A]
    assert observations.add(witness(3), B, 3.0) is Heard.MOVED
    assert observations.addresses() == [B]
    assert len(observations) == 2


def test_where_nobody_else_can_be_asked_one_witness_is_enough() -> None:
    observations = seen_as(A)
    assert observations.add(witness(1), B, 1.0, alone=True) is Heard.MOVED
    assert observations.addresses() == [B]


def test_who_contradicts_himself_is_not_heard_where_two_agree() -> None:
    observations = seen_as(A, A)
    for now, address in enumerate((B, A, B, A, B), 1):
        heard = observations.add(witness(9), address, float(now))
        assert heard is not Heard.MOVED
        if now > 1:
            assert observations.mapping(set()) is Mapping.UNKNOWN
            assert observations.addresses() == [A]


def test_an_address_of_one_word_is_not_passed_on_where_two_agree() -> None:
    assert seen_as(A, A, B).addresses() == [A]
    assert sorted(seen_as(A, B).addresses()) == [A, B]


def test_only_the_latest_few_words_count() -> None:
    observations = seen_as(*[A] * 3, *[B] * WITNESSES_MAX)
    assert observations.addresses() == [B]
    observations.expire(OBSERVATION_LIFETIME_S)
    assert observations.addresses() == []


def test_the_text_names_mapping_and_filtering() -> None:
    behaviour = NatBehaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.UNKNOWN, (A,))
    expected = "IPv4: endpoint-independent mapping, seen as 203.0.113.9:4000, filtering unknown"
    assert str(behaviour) == expected


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ((4000, 4001, 4002, 4003), PortUse(Mapping.SEQUENTIAL, 1)),
        ((4004, 4000, 4002), PortUse(Mapping.SEQUENTIAL, 2)),
        ((4000, 4001, 4003), PortUse(Mapping.SEQUENTIAL, 1)),
        ((4000, 4003), PortUse(Mapping.SEQUENTIAL, 1)),
        ((4000, 4016, 4032, 4048), PortUse(Mapping.SEQUENTIAL, 16)),
        ((4000, 4017), PortUse(Mapping.RANDOM)),
        (tuple(range(4000, 4112, 16)), PortUse(Mapping.SEQUENTIAL, 16)),
        (tuple(range(4000, 4128, 16)), PortUse(Mapping.RANDOM)),
        ((4000, 4000, 4000), PortUse(Mapping.ENDPOINT_INDEPENDENT)),
        ((4000, 4000), PortUse(Mapping.UNKNOWN)),
        ((4000, 4000, 9), PortUse(Mapping.UNKNOWN)),
        ((4000, 9, 4000, 4000), PortUse(Mapping.ENDPOINT_INDEPENDENT)),
        ((4000,), PortUse(Mapping.RANDOM)),
        ((), PortUse(Mapping.RANDOM)),
    ],
)
def test_a_fresh_socket_tells_sequential_from_random(ports: tuple[int, ...], expected: PortUse) -> None:
    assert judge_fresh_socket([pack("203.0.113.9", port) for port in ports]) == expected


def test_with_several_public_addresses_no_port_can_be_predicted() -> None:
    assert judge_fresh_socket([pack(f"203.0.113.{i}", 4000 + i) for i in range(4)]).mapping is Mapping.RANDOM
