from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from wh.engine.limits import Level, RateLimit, RecentlySeen, Shares
from wh.wire.address import Address, pack


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


def host(network: int, number: int = 1) -> Address:
    return pack(f"{20 + network // 250}.{network % 250}.1.{number}", 1)


def test_a_network_has_its_own_share_of_the_common_bucket() -> None:
    shares = Shares((Level(32, 128, 2, 1.0), Level(24, 48, 5, 1.0)), 100, 0.01)
    assert sum(shares.allow(host(1), 0.0) for _ in range(10)) == 2
    assert sum(shares.allow(host(1, number), 0.0) for number in range(2, 250)) == 3
    assert shares.allow(host(2), 0.0)


def test_who_seldom_asks_is_served_however_many_ask_all_the_time() -> None:
    shares = Shares((Level(24, 48, 10, 8.0),), 100, 0.1, strict=False)
    served = 0
    for step in range(10_000):
        now = step / 100
        shares.allow(host(step % 50), now)
        if step % 100 == 50:
            served += shares.allow(host(1000 + step // 100), now)
    assert served == 100


def test_no_number_of_names_makes_a_share_forget_who_has_used_it() -> None:
    shares = Shares((Level(24, 48, 4, 5.0),), 50, 0.2)
    now, allowed = 0.0, 0
    for step in range(20_000):
        now = step / 200
        shares.allow(host(1 + step % 4000), now)
        allowed += shares.allow(host(0), now)
        assert len(shares) <= 50 + 20 / 0.2 + 1
    assert allowed <= 4 + now / 5


def test_a_share_that_nobody_uses_is_full_again() -> None:
    shares = Shares((Level(24, 48, 2, 1.0),), 4, 1.0)
    assert [shares.allow(host(1), 0.0) for _ in range(3)] == [True, True, False]
    assert [shares.allow(host(1), 10.0) for _ in range(3)] == [True, True, False]


def test_where_it_is_not_strict_one_may_use_what_nobody_else_wants_but_for_a_half() -> None:
    shares = Shares((Level(24, 48, 2, 1.0),), 10, 1.0, strict=False)
    assert sum(shares.allow(host(1), 0.0) for _ in range(10)) == 5
    assert sum(shares.allow(host(2 + number), 0.0) for number in range(10)) == 5
