"""Any two kinds of site reach each other by name, and directly where their NATs let them."""

from __future__ import annotations

import random

import pytest

from cells import Kinds, Outcome, all_cells, batches, diagonal, run_batch

SEED = 4
SEEDED_PAIRS = 6
AT_ONCE = 8
"""Cells of one lab: their daemons share the machine's cores."""

DIAGONAL = diagonal()
OTHERS = [kinds for kinds in all_cells() if kinds not in DIAGONAL]
SEEDED = random.Random(SEED).sample(OTHERS, SEEDED_PAIRS)
QUICK = DIAGONAL + SEEDED
REST = [kinds for kinds in OTHERS if kinds not in SEEDED]

Outcomes = dict[Kinds, Outcome]


def measure(cells: list[Kinds]) -> Outcomes:
    outcomes = [outcome for batch in batches(cells, AT_ONCE) for outcome in run_batch(batch)]
    return {outcome.kinds: outcome for outcome in outcomes}


@pytest.fixture(scope="module")
def quick() -> Outcomes:
    return measure(QUICK)


@pytest.fixture(scope="module")
def rest() -> Outcomes:
    return measure(REST)


def check(outcome: Outcome) -> None:
    assert outcome.as_expected, f"{outcome.row()}\n{outcome.logs}"


@pytest.mark.parametrize("kinds", QUICK, ids=" and ".join)
def test_pair_connects_as_its_nats_allow(quick: Outcomes, kinds: Kinds) -> None:
    check(quick[kinds])


@pytest.mark.slow
@pytest.mark.parametrize("kinds", REST, ids=" and ".join)
def test_every_other_pair_connects_as_its_nats_allow(rest: Outcomes, kinds: Kinds) -> None:
    check(rest[kinds])
