"""`make bench-nat`: how soon and how well nodes reach each other, in the lab's internet with 20 ms wires.

The matrix of all pairs of kinds once, then each scenario of nat_figures for a number of rounds. Exit code 1
where a goal was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cells import KINDS, NEIGHBOURS, Kinds, Outcome, all_cells, batches, run_batch
from figures import REPOSITORY, RESULTS, write_result
from labnet import missing_requirements
from nat_figures import SCENARIOS, Figure, figure_rows, figures, matrix_rows, neighbour_rows
from nat_plot import plot_matrix
from nat_scenarios import DELAY_S, Samples
from performance_docs import replace_between
from tables import as_markdown, as_text

ROUNDS = 20
MATRIX_AT_ONCE = 4
"""Pairs of one lab; more would measure the machine."""

DOCUMENT = REPOSITORY / "docs" / "nat.md"
PLOT = REPOSITORY / "docs" / "nat.png"
BEGIN = "<!-- figures: written by bench-nat, not by hand -->"
END = "<!-- end of figures -->"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each scenario")
    parser.add_argument("--quick", action="store_true", help="two rounds, and the matrix's diagonal only")
    parser.add_argument("--only", action="append", choices=["matrix", *SCENARIOS], help="repeatable")
    parser.add_argument("--write-docs", action="store_true", help="put the tables and the plot into docs/")
    parser.add_argument(
        "--from",
        dest="results",
        type=Path,
        action="append",
        default=[],
        metavar="JSON",
        help="begin with what an earlier run kept, and measure only what --only names; repeatable",
    )
    return parser.parse_args(argv)


def measure_matrix(cells: Sequence[Kinds]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for batch in batches(cells, MATRIX_AT_ONCE):
        for outcome in run_batch(batch, delay_s=DELAY_S):
            print(outcome.row(), flush=True)
            outcomes.append(outcome)
    return outcomes


def measure(arguments: argparse.Namespace, outcomes: list[Outcome], samples: Samples) -> None:
    """What is asked for, in place of what was there."""
    wanted = arguments.only or ([] if arguments.results else ["matrix", *SCENARIOS])
    if "matrix" in wanted:
        cells = [kinds for kinds in all_cells() if not arguments.quick or kinds[0] == kinds[1]]
        outcomes[:] = measure_matrix(cells)
    for name, scenario in SCENARIOS.items():
        if name in wanted:
            print(scenario.title, flush=True)
            samples.update(scenario.run(2 if arguments.quick else arguments.rounds))


def kept(paths: Sequence[Path]) -> tuple[list[Outcome], Samples]:
    """Of earlier runs; later files come before."""
    outcomes: list[Outcome] = []
    samples: Samples = {}
    for path in paths:
        result = json.loads(path.read_text())
        found = [Outcome(**{**each, "kinds": tuple(each["kinds"])}) for each in result["matrix"]]
        outcomes = found or outcomes
        samples.update(result["samples"])
    return outcomes, samples


def show(all_figures: Sequence[Figure], outcomes: Sequence[Outcome]) -> None:
    print(as_text(figure_rows(all_figures)))
    for outcome in outcomes:
        print(outcome.row())


def draw(outcomes: Sequence[Outcome], machine: str) -> Path | None:
    """The plot's path, or None where matplotlib is missing: that must not cost the figures."""
    path = RESULTS / "nat.png"
    try:
        plot_matrix(outcomes, KINDS, path, machine)
    except ImportError as error:
        print(f"note: no plot ({error}); pip install '.[bench]'")
        return None
    return path


def write_docs(
    all_figures: Sequence[Figure], outcomes: Sequence[Outcome], result: dict[str, Any], plot: Path | None
) -> None:
    machine = result["machine"]
    inner = "\n\n".join(
        [
            f"Measured on {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, commit"
            f" {result['commit']}; wires of {DELAY_S * 1e3:g} ms from each site to the ISP, one way. Load"
            f" average of the machine: up to {result['load']:.1f}; one busy core makes 1.",
            as_markdown(figure_rows(all_figures)),
            "### The matrix\n\nSeconds from the first packet until the path is direct. Where it stays"
            " relayed: `relay`, and seconds until the first data.",
            as_markdown(matrix_rows(outcomes, KINDS)),
            as_markdown(neighbour_rows(outcomes, list(NEIGHBOURS))),
            f"![Time to direct of each pair of kinds]({PLOT.name})",
        ]
    )
    DOCUMENT.write_text(replace_between(DOCUMENT.read_text(), BEGIN, END, inner))
    if plot is not None:
        PLOT.write_bytes(plot.read_bytes())


def main() -> int:
    arguments = parse()
    if reason := missing_requirements():
        print(f"bench-nat: {reason}", file=sys.stderr)
        return 1
    outcomes, samples = kept(arguments.results)
    loads = [os.getloadavg()[1]]
    measure(arguments, outcomes, samples)
    loads.append(os.getloadavg()[1])
    body: dict[str, object] = {
        "matrix": [asdict(each) for each in outcomes],
        "samples": samples,
        "load": max(loads),
    }
    result = json.loads(write_result("nat", body).read_text())
    all_figures = figures(samples, outcomes)
    show(all_figures, outcomes)
    plot = draw(outcomes, result["machine"]["cpu"])
    if arguments.write_docs:
        write_docs(all_figures, outcomes, result, plot)
    return 0 if all(figure.met for figure in all_figures) else 1


if __name__ == "__main__":
    sys.exit(main())
