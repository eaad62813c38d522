"""What the soak takes for growth, and what it does not."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from growth import RESIDENT_GROWTH_KIB_MAX, Resources, complaints, resident_growth_kib
from soak import pings_lost

SECONDS = 180
BASE_KIB = 20_000


def run(
    resident: Callable[[int], float] = lambda at: BASE_KIB,
    fds: Callable[[int], int] = lambda at: 16,
    threads: Callable[[int], int] = lambda at: 4,
) -> list[Resources]:
    return [Resources(float(at), int(resident(at)), fds(at), threads(at)) for at in range(SECONDS)]


def test_a_process_that_stays_as_it_is_does_not_grow() -> None:
    assert complaints("end", run()) == []


def test_memory_taken_while_warming_up_is_no_growth() -> None:
    assert complaints("end", run(lambda at: BASE_KIB + min(at, 30) * 1000)) == []


def test_noise_is_no_growth() -> None:
    noise = random.Random(1)
    assert complaints("end", run(lambda at: BASE_KIB + noise.uniform(-500, 500))) == []


def test_a_slow_leak_is_growth() -> None:
    leaking = run(lambda at: BASE_KIB + at * 10)
    assert resident_growth_kib(leaking) == pytest.approx(10 * (SECONDS - 1 - SECONDS // 5))
    assert "resident" in complaints("end", leaking)[0]
    assert resident_growth_kib(run(lambda at: BASE_KIB + at)) < RESIDENT_GROWTH_KIB_MAX


@pytest.mark.parametrize("what", ["fds", "threads"])
def test_descriptors_and_threads_may_come_and_go_but_not_pile_up(what: str) -> None:
    assert complaints("end", run(**{what: lambda at: 16 + at % 2})) == []
    found = complaints("end", run(**{what: lambda at: 16 + at // 20}))
    assert len(found) == 1
    assert what in found[0]


def test_few_samples_prove_nothing() -> None:
    assert complaints("end", run()[:1]) == []
    assert complaints("end", []) == []


def test_pings_lost_are_read_from_the_closing_lines() -> None:
    assert pings_lost("600 packets transmitted, 597 received, 0.5% packet loss, time 2998ms") == (600, 3)
    assert pings_lost("PING 10.9.0.2 (10.9.0.2) 56(84) bytes of data.") == (0, 0)
