"""`make bench-data`: this data plane beside other userspace WireGuards, alternating, in one run.

Every round measures every implementation, step by step in turn, so that whatever else the machine does at a
time hits all of them; ratios are taken round by round. Exit code 1 where a goal was missed or a step of ours
failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import relay
from comparison import GOALS, Samples
from figures import REPOSITORY, RESULTS, write_result
from implementations import Role, all_implementations
from labnet import missing_requirements
from measurements import Settings
from performance_docs import write_docs
from plot import plot_throughput
from rounds import Comparison
from tables import as_text, figure_rows, goal_rows, ratio_rows

PAIRS = 7
SECONDS = 4
PINGS = 1_000
HANDSHAKES_PER_PEER = 8
SEED = 3


def show(samples: Samples, notes: Sequence[str]) -> None:
    for title, rows in (
        ("Medians (lowest - highest)", figure_rows(samples)),
        ("Ratios pair by pair", ratio_rows(samples)),
        ("Goals", goal_rows(samples)),
    ):
        print(f"\n{title}\n{as_text(rows)}")
    for note in notes:
        print(f"note: {note}")


def draw(samples: Samples, machine: str) -> Path | None:
    """The plot's path, or None where matplotlib is missing: that must not cost the figures."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "throughput.png"
    try:
        plot_throughput(samples, path, machine)
    except ImportError as error:
        print(f"note: no plot ({error}); pip install '.[bench]'")
        return None
    print(f"plotted to {path.relative_to(REPOSITORY)}")
    return path


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="rounds, each with all implementations")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each run of iperf3")
    parser.add_argument(
        "--peer",
        type=Path,
        action="append",
        default=[],
        metavar="PROGRAM",
        help="another userspace WireGuard, called as PROGRAM -f INTERFACE; repeatable",
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the invented peers' keys")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s runs: does it work at all?")
    parser.add_argument("--write-docs", action="store_true", help="put the tables and the plot into docs/")
    parser.add_argument(
        "--from",
        dest="result",
        type=Path,
        metavar="JSON",
        help="measure nothing: show (and write) what an earlier run kept",
    )
    return parser.parse_args(argv)


def measure(arguments: argparse.Namespace) -> tuple[Path, bool]:
    """The JSON's path, and whether every step of ours worked. Raises ValueError for a wrong --peer."""
    settings = Settings(arguments.seconds, PINGS, HANDSHAKES_PER_PEER, arguments.seed)
    pairs = arguments.pairs
    if arguments.quick:
        settings, pairs = Settings(1, 200, 2, arguments.seed), 1
    comparison = Comparison(all_implementations(arguments.peer), settings)
    if Role.NEWEST not in (each.role for each in comparison.implementations):
        comparison.notes.append("the newest wireguard-go is not here; see tests/bench/fetch_wireguard_go")
    if reason := relay.missing_requirements():
        comparison.notes.append(reason)
    for _ in range(pairs):
        comparison.run_round()
    return write_result("data", comparison.body()), not comparison.failed_ourselves


def main() -> int:
    arguments = parse()
    worked = True
    path = arguments.result
    if path is None:
        if reason := missing_requirements():
            print(f"bench-data: {reason}", file=sys.stderr)
            return 1
        try:
            path, worked = measure(arguments)
        except ValueError as error:
            print(f"bench-data: {error}", file=sys.stderr)
            return 2
    result = json.loads(path.read_text())
    samples = Samples({label: Role(role) for label, role in result["roles"].items()}, result["samples"])
    show(samples, result["notes"])
    plot = draw(samples, result["machine"]["cpu"])
    if arguments.write_docs:
        write_docs(samples, result, plot)
    return 0 if worked and all(goal.met(samples) is not False for goal in GOALS) else 1


if __name__ == "__main__":
    sys.exit(main())
