from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from wh.limits import RateLimit, RecentlySeen


@settings(derandomize=True, deadline=None)
@given(
    burst=st.integers(1, 10),
    interval_s=st.floats(0.1, 10),
    pauses=st.lists(st.floats(0, 5), max_size=100),
)
def test_never_more_than_the_burst_and_one_an_interval(
    burst: int, interval_s: float, pauses: list[float]
) -> None:
    limit = RateLimit(burst, interval_s)
    now, allowed = 0.0, 0
    for pause in pauses:
        now += pause
        allowed += limit.allow("name", now)
    assert allowed <= burst + now / interval_s + 1e-6


def test_the_burst_is_there_at_once_and_returns_with_time() -> None:
    limit = RateLimit(4, 2.0)
    assert [limit.allow("a", 0.0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert not limit.allow("a", 1.9)
    assert limit.allow("a", 2.1)
    assert limit.allow("b", 0.0)


def test_both_tables_forget_the_oldest_name() -> None:
    limit, seen = RateLimit(1, 1e9, entries_max=2), RecentlySeen(10.0, entries_max=2)
    for name in "abc":
        limit.allow(name, 0.0)
        seen.note(name, 0.0)
    assert (len(limit), len(seen)) == (2, 2)
    assert not limit.allow("c", 0.0)
    assert limit.allow("a", 0.0)
    assert [seen.seen(name, 1.0) for name in "abc"] == [False, True, True]


def test_what_was_seen_is_forgotten_after_its_time() -> None:
    seen = RecentlySeen(10.0)
    seen.note("a", 0.0)
    assert seen.seen("a", 9.9)
    assert not seen.seen("a", 10.0)
