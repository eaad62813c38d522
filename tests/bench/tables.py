"""The outcome of bench-data as tables, for a terminal and for docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from comparison import GOALS, METRICS, Samples, Spread, number

MISSING = "not available"

Row = Sequence[str]


def _cell(spread: Spread | None) -> str:
    return spread.text() if spread else MISSING


def figure_rows(samples: Samples) -> Iterator[Row]:
    """A row a metric, a column an implementation: median (lowest - highest)."""
    yield ["", *samples.labels]
    for metric in METRICS:
        cells = [samples.spread(label, metric.key) for label in samples.labels]
        yield [f"{metric.title}, {metric.unit}", *map(_cell, cells)]


def ratio_rows(samples: Samples) -> Iterator[Row]:
    """Ours by each other implementation's, pair by pair."""
    others = [label for label in samples.labels if label != samples.our_label]
    yield ["ours /", *others]
    for metric in METRICS:
        cells = [samples.ratio(metric.key, other) for other in others]
        if any(cells):
            yield [metric.title, *map(_cell, cells)]


def goal_rows(samples: Samples) -> Iterator[Row]:
    yield ["goal", "limit", "measured", ""]
    for goal in GOALS:
        value, met = goal.value(samples), goal.met(samples)
        verdict = {True: "met", False: "missed", None: ""}[met]
        measured = MISSING if value is None else number(value)
        yield [goal.title(samples), goal.limit_text(), measured, verdict]


def as_text(rows: Iterator[Row]) -> str:
    """Columns in line, all but the first to the right."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *rest in table:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def as_markdown(rows: Iterator[Row]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    columns = head.count("|") - 1
    return "\n".join([head, "|" + " --- |" * columns, *body])
