"""The round-trip estimate."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.engine.rtt import INITIAL_TIMEOUT_S, MAX_TIMEOUT_S, MIN_TIMEOUT_S, RttEstimator


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(0, 100), max_size=30))
def test_the_timeout_stays_in_its_range(samples):
    rtt = RttEstimator()
    for sample in samples:
        rtt.add_sample(sample)
    assert MIN_TIMEOUT_S <= rtt.timeout <= MAX_TIMEOUT_S


def test_the_first_samples_follow_rfc_6298():
    rtt = RttEstimator()
    assert (rtt.srtt, rtt.timeout) == (None, INITIAL_TIMEOUT_S)
    rtt.add_sample(0.1)
    assert (rtt.srtt, rtt.rttvar) == (0.1, 0.05)
    assert rtt.timeout == pytest.approx(0.3)
    rtt.add_sample(0.2)
    assert rtt.rttvar == pytest.approx(0.75 * 0.05 + 0.25 * 0.1)
    assert rtt.srtt == pytest.approx(0.875 * 0.1 + 0.125 * 0.2)


def test_a_steady_path_comes_to_wait_little_and_a_shaky_one_longer():
    steady, shaky = RttEstimator(), RttEstimator()
    for number in range(50):
        steady.add_sample(0.1)
        shaky.add_sample(0.05 if number % 2 else 0.15)
    assert steady.timeout == MIN_TIMEOUT_S
    assert shaky.timeout > 0.25
