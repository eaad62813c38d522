"""The replay window against a set of every counter ever accepted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whcore.replay import LIMIT_MAX, WINDOW, ReplayWindow


class SetWindow:
    """The same rule, slow and obvious."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.highest = 0

    def accept(self, counter: int, limit: int) -> bool:
        if counter >= limit or counter < self.highest - WINDOW or counter in self.seen:
            return False
        self.seen.add(counter)
        self.highest = max(self.highest, counter)
        return True


# Jumps that stay in a block, cross blocks, graze both edges of the window, and leave it.
jumps = st.one_of(
    st.integers(-70, 70),
    st.integers(WINDOW - 66, WINDOW + 66),
    st.integers(-WINDOW - 66, -WINDOW + 66),
    st.integers(-3 * WINDOW, 3 * WINDOW),
)
starts = st.one_of(st.just(0), st.integers(0, 2**63), st.integers(LIMIT_MAX - 3 * WINDOW, LIMIT_MAX))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(start=starts, steps=st.lists(jumps, max_size=120))
def test_window_accepts_what_a_set_of_counters_accepts(start: int, steps: list[int]) -> None:
    window, oracle = ReplayWindow(), SetWindow()
    counter = start
    for jump in [0, *steps]:
        counter = min(max(counter + jump, 0), 2**64 - 1)
        assert window.accept(counter) == oracle.accept(counter, LIMIT_MAX), counter


def test_the_window_ends_exactly_where_it_says() -> None:
    window = ReplayWindow()
    assert window.accept(100_000)
    assert window.accept(100_000 - WINDOW)
    assert not window.accept(100_000 - WINDOW)
    assert not window.accept(100_000 - WINDOW - 1)


def test_counters_from_the_limit_on_are_never_accepted() -> None:
    window = ReplayWindow()
    assert not window.accept(10, limit=10)
    assert not window.accept(2**64 - 1)
    assert window.accept(9, limit=10)
    with pytest.raises(ValueError, match="LIMIT_MAX"):
        window.accept(0, limit=LIMIT_MAX + 1)


def test_reset_forgets() -> None:
    window = ReplayWindow()
    assert window.accept(70_000)
    window.reset()
    assert window.accept(0)
    assert window.accept(70_000)
