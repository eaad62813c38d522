"""Puts the tables and the plot of a run of bench-data into docs/performance.md, between its two markers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comparison import Samples
from figures import REPOSITORY
from tables import as_markdown, figure_rows, goal_rows, ratio_rows

DOCUMENT = REPOSITORY / "docs" / "performance.md"
PLOT = REPOSITORY / "docs" / "throughput.png"
BEGIN = "<!-- figures: written by bench-data, not by hand -->"
END = "<!-- end of figures -->"


def section(samples: Samples, result: dict[str, Any]) -> Iterator[str]:
    machine, settings, versions = result["machine"], result["settings"], result["versions"]
    yield (
        f"Measured on {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, commit"
        f" {result['commit']}, Python {versions['python']}, AEAD by"
        f" {result.get('aead', 'libsodium')}, iperf3 {result['iperf3']};"
        f" rounds: {settings['pairs']}; each iperf3 run: {settings['seconds']} s; seed: {settings['seed']}."
    )
    yield "### Figures\n\nMedian (lowest - highest) of the rounds."
    yield as_markdown(figure_rows(samples))
    yield "### Ratios\n\nOurs by theirs, round by round: median (lowest - highest)."
    yield as_markdown(ratio_rows(samples))
    yield "### Goals"
    yield as_markdown(goal_rows(samples))
    yield f"### Throughput against packet size\n\n![UDP throughput against packet size]({PLOT.name})"
    if result["notes"]:
        yield "### Notes\n\n" + "\n".join(f"- {note}" for note in result["notes"])


def replace_between(text: str, begin: str, end: str, inner: str) -> str:
    """text with what stands between the two markers exchanged. Raises ValueError where one is missing."""
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the text has not both of {begin!r} and {end!r}")
    return f"{before}{begin}\n\n{inner}\n\n{end}{after}"


def write_docs(samples: Samples, result: dict[str, Any], plot: Path | None) -> None:
    """plot: the PNG to go along; without one the document keeps the plot that it has."""
    inner = "\n\n".join(section(samples, result))
    DOCUMENT.write_text(replace_between(DOCUMENT.read_text(), BEGIN, END, inner))
    if plot is not None:
        shutil.copyfile(plot, PLOT)
