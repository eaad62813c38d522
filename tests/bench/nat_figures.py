"""The scenarios of bench-nat, and the figures made of their samples and of the matrix, with their goals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cells import Kinds, Outcome, can_be_direct, needs_search
from nat_scenarios import (
    DIRECT_S,
    SEARCH_S,
    Sample,
    Samples,
    Stage,
    address_change,
    first_data_through_a_relay,
    nat_rebinding,
    relay_killed,
    rounds,
    tcp_throughput,
    time_to_direct,
    upgrade,
)

RANDOM, RESTRICTED = "random", "port-restricted"
PUNCHED_WITHIN_S = 1.5
SEARCHED_WITHIN_S = 25.0
WINDOW = 8_128
"""Packets that the replay window of the data plane lets be late."""


@dataclass(frozen=True)
class Scenario:
    title: str
    run: Callable[[int], Samples]
    """The samples of so many rounds, by key."""


def _on_pair(title: str, kinds: Kinds, play: Callable[[Stage], dict[str, Sample]], *keys: str) -> Scenario:
    return Scenario(f"{title}: {' and '.join(kinds)}", lambda count: rounds(kinds, count, play, keys))


SCENARIOS = {
    "first-data": _on_pair("first data", (RANDOM, RANDOM), first_data_through_a_relay, "first_data"),
    "punching": _on_pair(
        "punching", (RESTRICTED, RESTRICTED), time_to_direct(DIRECT_S, "punched"), "punched"
    ),
    "search": _on_pair(
        "birthday search", (RANDOM, RESTRICTED), time_to_direct(SEARCH_S, "searched"), "searched"
    ),
    "relay-killed": _on_pair("relay killed", (RANDOM, RANDOM), relay_killed, "relay_gap"),
    "rebinding": _on_pair("NAT rebinding", ("port-translating", RESTRICTED), nat_rebinding, "rebinding_gap"),
    "address": _on_pair("address change", (RESTRICTED, RESTRICTED), address_change, "address_gap"),
    "upgrade": _on_pair("upgrade", (RESTRICTED, RESTRICTED), upgrade, "upgrade_lost", "upgrade_overtaken"),
    "throughput": Scenario(
        "TCP over wires of 100 Mbit/s, direct and relayed", lambda count: tcp_throughput((count + 3) // 4)
    ),
}


@dataclass(frozen=True)
class Figure:
    """Samples of one kind; None are rounds that failed, and as bad as can be. More is worse."""

    title: str
    unit: str
    samples: Sequence[Sample]
    limit: float
    share: float = 1.0
    """How many of the samples must keep the limit."""

    @property
    def met(self) -> bool:
        kept = sum(value is not None and value <= self.limit for value in self.samples)
        return bool(self.samples) and kept >= self.share * len(self.samples)

    def row(self) -> list[str]:
        values = [math.inf if value is None else value for value in self.samples]
        if not values:
            return [self.title, "", "", "0", self._goal(), "not measured"]
        texts = [self._text(statistics.median(values)), self._text(max(values))]
        return [self.title, *texts, str(len(values)), self._goal(), "met" if self.met else "missed"]

    def _goal(self) -> str:
        share = "all" if self.share == 1 else f"{self.share:.0%}"
        return f"{share} <= {self.limit:g} {self.unit}".rstrip()

    def _text(self, value: float) -> str:
        return "failed" if math.isinf(value) else f"{value:.3g} {self.unit}".rstrip()


def figures(samples: Samples, outcomes: Sequence[Outcome]) -> list[Figure]:
    punched = [each for each in outcomes if can_be_direct(each.kinds) and not needs_search(each.kinds)]
    searched = [each.direct_s for each in outcomes if can_be_direct(each.kinds) and needs_search(each.kinds)]
    of = samples.get
    return [
        Figure("first data through a relay", "relayed RTT", of("first_data", []), 5),
        Figure("punching, port-restricted on both sides", "s", of("punched", []), PUNCHED_WITHIN_S, 0.9),
        Figure(
            "time to direct, pairs of the matrix without search",
            "s",
            [each.direct_s for each in punched],
            PUNCHED_WITHIN_S,
            0.9,
        ),
        Figure(
            "birthday search, random and port-restricted", "s", of("searched", []), SEARCHED_WITHIN_S, 0.95
        ),
        Figure("birthday search, pairs of the matrix", "s", searched, SEARCHED_WITHIN_S, 0.95),
        Figure("longest gap, the relay in use killed", "s", of("relay_gap", []), 0.5),
        Figure("longest gap, NAT rebinding", "s", of("rebinding_gap", []), 1),
        Figure("longest gap, address change", "s", of("address_gap", []), 1),
        Figure("upgrade to direct, packets lost", "", of("upgrade_lost", []), 0),
        Figure("upgrade to direct, farthest out of order", "packets", of("upgrade_overtaken", []), WINDOW),
        Figure("TCP, direct / relayed", "times", _ratios(samples), 1 / 0.6),
    ]


def _ratios(samples: Samples) -> list[Sample]:
    """Round by round."""
    pairs = zip(samples.get("tcp_direct", []), samples.get("tcp_relayed", []), strict=True)
    return [direct / relayed if direct and relayed else None for direct, relayed in pairs]


def figure_rows(all_figures: Sequence[Figure]) -> Iterator[list[str]]:
    yield ["", "median", "worst", "samples", "goal", ""]
    for figure in all_figures:
        yield figure.row()


def matrix_rows(outcomes: Sequence[Outcome], kinds: Sequence[str]) -> Iterator[list[str]]:
    """A row and a column a kind: time to direct, or to the first data where it stays relayed."""
    by_kinds = {frozenset(each.kinds): each for each in outcomes}
    yield ["", *kinds]
    for row in kinds:
        yield [row, *(_cell(by_kinds.get(frozenset((row, column)))) for column in kinds)]


def neighbour_rows(outcomes: Sequence[Outcome], names: Sequence[str]) -> Iterator[list[str]]:
    by_name = {each.kinds[0]: each for each in outcomes}
    yield ["both behind one NAT", "path"]
    for name in names:
        yield [name, _cell(by_name.get(name))]


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    if outcome.direct_s is not None and outcome.path == "direct":
        return f"{outcome.direct_s:.1f} s"
    if outcome.first_data_s is None:
        return "none"
    return f"relay {outcome.first_data_s:.1f} s"
