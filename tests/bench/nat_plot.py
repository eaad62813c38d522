"""The heat map of the NAT matrix. matplotlib is the extra `bench`; nothing else needs it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from cells import Outcome

SLOWEST_S = 30.0
FASTEST_S = 0.05


def plot_matrix(outcomes: Sequence[Outcome], kinds: Sequence[str], path: Path, subtitle: str) -> None:
    """Write a PNG: time to direct as colour, grey where a relay carries the data. Raises ImportError."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    by_kinds = {frozenset(each.kinds): each for each in outcomes}
    cells = [[by_kinds.get(frozenset((row, column))) for column in kinds] for row in kinds]
    figure = Figure(figsize=(10, 8.5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("lightgrey")
    image = axes.imshow(
        [[_colour_s(cell) for cell in row] for row in cells],
        norm=LogNorm(FASTEST_S, SLOWEST_S),
        cmap="viridis_r",
    )
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            axes.text(x, y, _label(cell), ha="center", va="center", fontsize=7, color=_text_colour(cell))
    axes.set_xticks(range(len(kinds)), kinds, rotation=45, ha="right")
    axes.set_yticks(range(len(kinds)), kinds)
    figure.colorbar(
        image, ax=axes, label="time to direct, s (grey: stays relayed, time to first data)", shrink=0.8
    )
    axes.set_title(f"How two sites find each other\n{subtitle}", fontsize=10)
    figure.savefig(path, format="png")


def _direct_s(outcome: Outcome | None) -> float | None:
    return outcome.direct_s if outcome is not None and outcome.path == "direct" else None


def _colour_s(outcome: Outcome | None) -> float:
    direct_s = _direct_s(outcome)
    return math.nan if direct_s is None else min(max(direct_s, FASTEST_S), SLOWEST_S)


def _label(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    seconds = _direct_s(outcome)
    if seconds is None:
        seconds = outcome.first_data_s
    return "none" if seconds is None else f"{seconds:.1f}"


def _text_colour(outcome: Outcome | None) -> str:
    direct_s = _direct_s(outcome)
    return "white" if direct_s is not None and direct_s > 2 else "black"
