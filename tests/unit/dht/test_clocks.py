"""Whose clock is wrong, by signed records."""

from __future__ import annotations

import pytest
from engine_parts import at

from wh.dht.records.clocks import KEYS_MAX, RECENT_S, Clocks
from wh.engine.events import Instant

DAY = 86400.0
NOW = at(0)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def clocks(*ahead_s: float) -> Clocks:
    """A word of each of these, so much ahead of us; those that are not untimely are right."""
    made = Clocks()
    for number, seconds in enumerate(ahead_s):
        made.signed(key(number), int((NOW.unix + seconds) * 1000), NOW, timely=-3000 < seconds < 3000)
    return made


@pytest.mark.parametrize(
    ("words", "slow_s"),
    [
        ((), None),
        ((0.0, -5.0, 300.0), None),
        ((DAY,), DAY),
        ((DAY, DAY + 2, DAY - 30), DAY),
        ((-DAY, -DAY), -DAY),
        ((1800.0, 1900.0), 1850.0),  # accepted, and yet ours would expire too early for others
        ((DAY, 0.0), None),
        ((DAY, DAY, 0.0), DAY),
        ((DAY, 0.0, 0.0), None),
    ],
)
def test_our_clock_is_wrong_where_most_differ_from_it(words: tuple[float, ...], slow_s: float | None) -> None:
    assert clocks(*words).slow_s(NOW) == pytest.approx(slow_s, abs=1.0)


def test_of_others_only_what_is_ahead_is_told() -> None:
    """An old record may be anybody's to pass on."""
    assert clocks(DAY, -DAY, 0.0, 0.0, 0.0).fast(NOW) == {key(0): pytest.approx(DAY, abs=1.0)}
    assert clocks(DAY, DAY, 0.0).fast(NOW) == {}, "then it is ours"


def test_the_last_word_of_each_counts_for_a_while() -> None:
    known = clocks(DAY)
    known.signed(key(0), int(NOW.unix * 1000), NOW, timely=True)
    assert known.slow_s(NOW) is None
    assert clocks(DAY).slow_s(at(RECENT_S + 1)) is None


def test_a_clock_that_was_set_begins_anew() -> None:
    assert clocks(DAY).slow_s(Instant(NOW.monotonic + 1, NOW.unix + 1 + DAY)) is None


def test_the_table_is_bounded() -> None:
    known = clocks(*([DAY] * (KEYS_MAX + 10)))
    assert len(known._words) == KEYS_MAX
