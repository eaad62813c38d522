from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wh.punch.schedule import (
    PORTS,
    PREDICTED_STEPS,
    PROBES_PER_IP_MAX,
    PROBES_PER_NETWORK_MAX,
    ROUNDS,
    SEARCH_INTERVAL_S,
    SEARCH_PROBES,
    SEARCH_S,
    SHOTS_AT_S,
    VOUCHED_PROBES_MAX,
    WAVES,
    ProbeBudget,
    Tactic,
    aims,
    birthday_chance,
    in_turn,
    predicted,
    search_addresses,
    tactic_for,
)
from wh.punch.search_pauses import FIRST_PAUSE_S, LONGEST_PAUSE_S, PEERS_MAX, SearchPauses
from wh.wire.address import pack, port_of
from wh.wire.candidates import Candidate, CandidateFlag, Mapping, NatProfile

ADDRESS = pack("203.0.113.9", 50_000)
OTHER = pack("198.51.100.1", 62_096)
EASY = (Mapping.UNKNOWN, Mapping.NONE, Mapping.ENDPOINT_INDEPENDENT, 99)


@pytest.mark.parametrize("peer", EASY)
def test_only_one_random_side_makes_a_search(peer: int) -> None:
    assert tactic_for(Mapping.RANDOM, peer) is Tactic.OPEN_SOCKETS
    assert tactic_for(peer, Mapping.RANDOM) is Tactic.SEARCH_PORTS


@given(st.integers(0, 255), st.integers(0, 255))
def test_both_sides_come_to_the_same_plan(own: int, peer: int) -> None:
    pairs = {
        Tactic.ROUNDS: Tactic.ROUNDS,
        Tactic.LOCAL_ONLY: Tactic.LOCAL_ONLY,
        Tactic.OPEN_SOCKETS: Tactic.SEARCH_PORTS,
        Tactic.SEARCH_PORTS: Tactic.OPEN_SOCKETS,
    }
    assert tactic_for(peer, own) is pairs[tactic_for(own, peer)]


@given(st.integers(1, 0xFFFF), st.integers(1, 255))
def test_predicted_ports_follow_in_steps_and_never_leave_the_range(port: int, step: int) -> None:
    found = predicted(pack("203.0.113.9", port), step)
    assert len(found) == len(set(found)) == PREDICTED_STEPS
    assert all(address[:16] == ADDRESS[:16] and port_of(address) in PORTS for address in found)


def test_the_port_after_the_announced_one_comes_first() -> None:
    assert [port_of(each) for each in predicted(ADDRESS, 1)[:3]] == [50_001, 50_002, 50_003]
    assert [port_of(each) for each in predicted(ADDRESS, 5)[:3]] == [50_005, 50_010, 50_015]
    assert port_of(predicted(pack("203.0.113.9", 65_535), 1)[0]) == PORTS.start


def test_only_the_announced_port_of_a_sequential_mapping_makes_way_for_guesses() -> None:
    near = pack("192.168.1.2", 62_096)
    candidates = [Candidate(ADDRESS, CandidateFlag.REFLEXIVE), Candidate(near), Candidate(OTHER)]
    guesses, others = aims(candidates, NatProfile(Mapping.SEQUENTIAL, 0, 2), Tactic.ROUNDS)
    assert guesses == predicted(ADDRESS, 2)
    assert others == [near, OTHER]
    assert aims(candidates, NatProfile(Mapping.ENDPOINT_INDEPENDENT), Tactic.ROUNDS) == (
        [],
        [near, ADDRESS, OTHER],
    )
    assert aims(candidates, NatProfile(Mapping.SEQUENTIAL), Tactic.LOCAL_ONLY)[0] == []


def test_a_search_takes_each_port_once_and_each_ip_in_turn() -> None:
    ips = [pack(f"203.0.113.{i}", 0)[:16] for i in (1, 2, 3)]
    found = search_addresses(ips, random.Random(1))
    assert len({port_of(address) for address in found}) == len(found) == SEARCH_PROBES
    assert [address[:16] for address in found[:6]] == ips * 2


def test_a_search_succeeds_as_often_as_the_protocol_says() -> None:
    assert 0.983 < birthday_chance(256, SEARCH_PROBES) < 0.984
    assert 0.98 < birthday_chance(256, SEARCH_PROBES, 65_536) < 0.983
    assert SEARCH_PROBES * SEARCH_INTERVAL_S < WAVES[-1].at_s < SEARCH_S < 25
    assert sum(wave.sockets for wave in WAVES if not wave.renew) == 256
    assert sum(wave.sockets for wave in WAVES) <= VOUCHED_PROBES_MAX


def test_the_birthday_chance_is_that_of_drawing_without_putting_back() -> None:
    assert birthday_chance(1, 1, 10) == pytest.approx(0.1)
    assert birthday_chance(3, 2, 10) == pytest.approx(1 - (7 / 10) * (6 / 9))
    assert birthday_chance(0, 5, 10) == 0


def test_one_candidate_may_be_probed_in_every_shot_of_every_round() -> None:
    shots = sum(sum(at_s <= each.lasts_s for at_s in SHOTS_AT_S) for each in ROUNDS)
    assert shots <= PROBES_PER_IP_MAX


def test_the_budget_of_an_ip_is_spent_once_and_guesses_need_a_witness() -> None:
    vouched, other = ADDRESS[:16], pack("198.51.100.1", 5)
    budget = ProbeBudget(frozenset({vouched}))
    assert sum(budget.take(other) for _ in range(100)) == PROBES_PER_IP_MAX
    assert not any(budget.take_of_many(other[:16]) for _ in range(100))
    assert sum(budget.take_of_many(vouched) for _ in range(3000)) == VOUCHED_PROBES_MAX
    assert budget.take(ADDRESS)


def test_a_peer_that_offers_many_addresses_of_one_network_has_one_budget_for_them() -> None:
    budget = ProbeBudget(frozenset())
    offered = [pack(f"198.51.100.{1 + number}", 5) for number in range(24)]
    assert sum(budget.take(address) for address in 100 * offered) == PROBES_PER_NETWORK_MAX
    private = [pack(f"192.168.1.{1 + number}", 5) for number in range(8)]
    assert sum(budget.take(address) for address in 100 * private) == 8 * PROBES_PER_IP_MAX


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 99)), unique=True))
def test_after_the_first_shot_an_ip_gets_one_each_and_all_get_their_turn(
    targets: list[tuple[bytes, int]],
) -> None:
    assert sorted(in_turn(0, targets)) == sorted(target for _, target in targets)
    ips = {ip for ip, _ in targets}
    seen = []
    for shot in range(1, 1 + len(targets)):
        chosen = list(in_turn(shot, targets))
        assert len(chosen) == len(ips)
        seen += chosen
    assert {target for _, target in targets} == set(seen)


def test_pauses_double_up_to_an_hour_and_success_ends_them() -> None:
    pauses, now, lengths = SearchPauses(), 0.0, []
    for _ in range(12):
        assert pauses.over(b"peer", now)
        pauses.ended(b"peer", succeeded=False, now=now)
        begun = now
        while not pauses.over(b"peer", now):
            now += 1.0
        lengths.append(now - begun)
    assert lengths[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert lengths[-1] == LONGEST_PAUSE_S
    pauses.ended(b"peer", succeeded=True, now=now)
    assert pauses.over(b"peer", now)


def test_the_table_of_pauses_is_bounded() -> None:
    pauses = SearchPauses()
    for number in range(2 * PEERS_MAX):
        pauses.ended(number.to_bytes(32, "big"), succeeded=False, now=0.0)
    assert len(pauses._pauses) == PEERS_MAX
