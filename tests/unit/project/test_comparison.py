"""Medians, ratios pair by pair and goals of bench-data, on samples that were never measured."""

from __future__ import annotations

import pytest

from comparison import GOALS, Goal, Samples, Spread, pairwise_ratios, spread
from implementations import Role
from performance_docs import BEGIN, END, replace_between
from plot import throughput_points
from tables import MISSING, as_markdown, as_text, figure_rows, goal_rows, ratio_rows

OURS, NEW, OLD = "ours", "new-go", "old-go"


def samples(**rows: dict[str, list[float | None]]) -> Samples:
    """rows: metric -> label -> one sample a round."""
    by_label: dict[str, dict[str, list[float | None]]] = {OURS: {}, NEW: {}, OLD: {}}
    for metric, columns in rows.items():
        for label, values in columns.items():
            by_label[label.replace("_", "-")][metric] = values
    return Samples({OURS: Role.OURS, NEW: Role.NEWEST, OLD: Role.DEBIAN}, by_label)


def goal(key: str, against: Role | None = None) -> Goal:
    return next(each for each in GOALS if (each.key, each.against) == (key, against))


def test_a_ratio_is_the_median_of_the_rounds_and_not_of_the_medians() -> None:
    measured = samples(tcp_1={"ours": [100.0, 400.0, 90.0], "new_go": [50.0, 400.0, 100.0]})
    assert measured.ratio("tcp_1", NEW) == Spread(median=1.0, low=0.9, high=2.0)


def test_a_round_that_failed_on_either_side_makes_no_pair() -> None:
    assert pairwise_ratios([1.0, None, 6.0, 8.0], [2.0, 2.0, None]) == [0.5, None, None]
    assert spread([None, None]) is None
    assert spread([None, 3.0]) == Spread(3.0, 3.0, 3.0)


@pytest.mark.parametrize(("ours", "met"), [(1.09, False), (1.1, True), (1.4, True)])
def test_a_goal_for_speed_is_met_from_its_limit_up(ours: float, met: bool) -> None:
    assert goal("tcp_1", Role.NEWEST).met(samples(tcp_1={"ours": [ours], "new_go": [1.0]})) is met


@pytest.mark.parametrize(("ours", "met"), [(0.79, True), (0.8, True), (0.81, False)])
def test_a_goal_for_cost_is_met_up_to_its_limit(ours: float, met: bool) -> None:
    assert goal("rtt", Role.NEWEST).met(samples(rtt={"ours": [ours], "new_go": [1.0]})) is met


def test_a_goal_is_open_where_the_other_side_was_not_measured() -> None:
    measured = samples(tcp_1={"ours": [5.0], "old_go": [1.0]})
    assert goal("tcp_1", Role.NEWEST).met(measured) is None
    assert goal("tcp_1", Role.DEBIAN).met(measured) is True


def test_relay_forwarding_is_compared_with_the_other_sides_tcp() -> None:
    measured = samples(relay_gso={"ours": [2500.0]}, tcp_1={"ours": [9000.0], "old_go": [500.0]})
    assert goal("relay_gso", Role.DEBIAN).value(measured) == 5.0


def test_tables_show_every_metric_and_say_what_is_missing() -> None:
    measured = samples(tcp_1={"ours": [1234.0, 1000.0], "old_go": [617.0, 500.0]})
    text = as_text(figure_rows(measured))
    assert "1,117 (1,000 - 1,234)" in text
    assert MISSING in text
    assert len({len(line) for line in as_text(ratio_rows(measured)).splitlines()}) == 1, "columns in line"
    markdown = as_markdown(goal_rows(measured)).splitlines()
    assert len({line.count("|") for line in markdown}) == 1
    assert len(markdown) == len(GOALS) + 2


def test_the_plot_shows_payload_bits_of_the_sizes_that_were_measured() -> None:
    measured = samples(udp_1200={"ours": [100_000.0, 200_000.0, 150_000.0]})
    assert throughput_points(measured, OURS) == [pytest.approx((1200, 1440, 960, 1920))]
    assert throughput_points(measured, NEW) == []


def test_documentation_changes_between_its_markers_only() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = replace_between(text, BEGIN, END, "new")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert replace_between(once, BEGIN, END, "new") == once
    with pytest.raises(ValueError, match="figures"):
        replace_between("no markers", BEGIN, END, "new")
