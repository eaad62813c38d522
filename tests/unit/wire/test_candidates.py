from __future__ import annotations

from wh.nat.behavior import NatBehaviour
from wh.nat.candidates import offered_candidates, own_candidates
from wh.wire.address import Address, pack
from wh.wire.candidates import MAX_CANDIDATES, Candidate, CandidateFlag, Filtering, Mapping

OWN = pack("198.51.100.2", 62096)
REFLEXIVE = pack("203.0.113.9", 4000)
CONFIRMED = CandidateFlag.CONFIRMED


def behaviour(mapping: Mapping, *observed: Address) -> NatBehaviour:
    return NatBehaviour(mapping, Filtering.UNKNOWN, observed)


def test_one_answer_is_enough_for_an_unconfirmed_candidate_in_a_small_network() -> None:
    found = own_candidates([], [behaviour(Mapping.UNKNOWN, REFLEXIVE)], (), declared_direct=False)
    assert found == (Candidate(REFLEXIVE, 0),)


def test_a_translated_address_is_not_published_once_the_translation_is_known() -> None:
    for mapping in (Mapping.ENDPOINT_INDEPENDENT, Mapping.RANDOM):
        assert own_candidates([], [behaviour(mapping, REFLEXIVE)], (), declared_direct=False) == ()


def test_a_knock_makes_a_candidate_confirmed_and_first() -> None:
    seen = behaviour(Mapping.ENDPOINT_INDEPENDENT, REFLEXIVE)
    found = own_candidates([OWN], [seen], {REFLEXIVE}, declared_direct=False)
    assert found == (Candidate(REFLEXIVE, CONFIRMED), Candidate(OWN, 0))


def test_an_operator_who_says_direct_needs_no_proof() -> None:
    seen = behaviour(Mapping.ENDPOINT_INDEPENDENT, REFLEXIVE)
    found = own_candidates([OWN], [seen], (), declared_direct=True)
    assert found == (Candidate(REFLEXIVE, CONFIRMED), Candidate(OWN, CONFIRMED))


def test_an_address_that_is_seen_and_ours_stands_there_once() -> None:
    found = own_candidates([OWN], [behaviour(Mapping.NONE, OWN)], (), declared_direct=False)
    assert found == (Candidate(OWN, 0),)


def test_there_are_at_most_as_many_as_a_record_takes() -> None:
    many = [pack("198.51.100.2", port) for port in range(1, 30)]
    found = own_candidates(many, [], {many[-1]}, declared_direct=False)
    assert len(found) == MAX_CANDIDATES
    assert found[0] == Candidate(many[-1], CONFIRMED)


def test_an_offer_names_proved_mapped_reflexive_and_local_addresses_in_that_order() -> None:
    local = pack("192.168.1.2", 62096)
    mapped = pack("203.0.113.9", 62096)
    assert offered_candidates([OWN], [mapped, OWN], [REFLEXIVE, OWN], [local, OWN]) == (
        Candidate(OWN, CONFIRMED | CandidateFlag.REFLEXIVE),
        Candidate(mapped, 0),
        Candidate(REFLEXIVE, CandidateFlag.REFLEXIVE),
        Candidate(local, 0),
    )


def test_an_offer_names_at_most_eight() -> None:
    many = [pack("192.168.1.2", port) for port in range(1, 30)]
    found = offered_candidates([], [], [REFLEXIVE], many)
    assert len(found) == MAX_CANDIDATES
    assert found[0].address == REFLEXIVE
