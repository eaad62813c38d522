"""`make bench-faults`: how long nobody is answered after what befalls a host's network, on wires of 20 ms.

Each fault of network_faults ten times, and entering a network with NAT64. Exit code 1 for a goal missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from figures import REPOSITORY, commit, machine
from labnet import Lab, LabError, missing_requirements
from nat64 import Nat64
from network_faults import FAULTS, Fault, World
from performance_docs import replace_between
from tables import as_markdown

TIMES = 10
REST_S = 2.0
LEARN_S = 40.0
"""What public nodes say of their other addresses is known then."""

QUIET_S = 15.0
"""Names are asked three times at once and once more each 5 s: who has moved in between waits for that."""

DOCUMENT = REPOSITORY / "docs" / "faults.md"
BEGIN = "<!-- figures: written by bench-faults, not by hand -->"
END = "<!-- end of figures -->"

Gaps = dict[str, list[float]]
NAT64_NAME = "IPv4-only to IPv6-only with NAT64, b without IPv6"
NAT64_GOAL_S = 6.0


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=TIMES, help="that each befalls the host, at the least")
    parser.add_argument("--only", action="append", metavar="WORD", help="of the faults' names; repeatable")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/faults.md")
    return parser.parse_args(argv)


def wanted(arguments: argparse.Namespace, name: str) -> bool:
    return not arguments.only or any(word in name for word in arguments.only)


def measure(fault: Fault, world: World, times: int) -> list[float]:
    gaps: list[float] = []
    while len(gaps) < times:
        gaps += fault.play(world)
        world.net.wait_until_direct()
        time.sleep(REST_S)
    return gaps


def measure_nat64(times: int) -> list[float]:
    gaps: list[float] = []
    with Lab("nat64") as lab:
        world = Nat64(lab)
        for _ in range(times):
            gaps.append(world.enter_s(rest_s=QUIET_S))
            world.leave_s()
            time.sleep(REST_S)
    return gaps


def run(arguments: argparse.Namespace) -> Gaps:
    gaps: Gaps = {}
    faults = [fault for fault in FAULTS if wanted(arguments, fault.name)]
    if faults:
        with Lab("faults") as lab:
            world = World.make(lab)
            time.sleep(LEARN_S)
            for fault in faults:
                tell(fault.name, gaps, lambda fault=fault: measure(fault, world, arguments.times))  # type: ignore[misc]
    if wanted(arguments, NAT64_NAME):
        try:
            tell(NAT64_NAME, gaps, lambda: measure_nat64(arguments.times))
        except LabError as error:
            print(f"no NAT64: {error}", file=sys.stderr)
    return gaps


def tell(name: str, gaps: Gaps, play: Callable[[], list[float]]) -> None:
    gaps[name] = play()
    print(f"{name}: {' '.join(f'{gap:.2f}' for gap in gaps[name])}", flush=True)


def goals() -> dict[str, float]:
    return {**{fault.name: fault.goal_s for fault in FAULTS}, NAT64_NAME: NAT64_GOAL_S}


def rows(gaps: Gaps) -> Iterator[list[str]]:
    yield ["what happens", "median", "worst", "of", "goal of the median"]
    for name, each in gaps.items():
        goal = f"{goals()[name]:g} s"
        yield [name, f"{statistics.median(each):.2f} s", f"{max(each):.2f} s", str(len(each)), goal]


def missed(gaps: Gaps) -> list[str]:
    return [name for name, each in gaps.items() if statistics.median(each) > goals()[name]]


def write_docs(gaps: Gaps) -> None:
    here = machine()
    said = f"Measured on {here['cpu']}, {here['cores']} cores, Linux {here['kernel']}, commit {commit()}."
    inner = f"{said}\n\n{as_markdown(rows(gaps))}"
    DOCUMENT.write_text(replace_between(DOCUMENT.read_text(), BEGIN, END, inner))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    if reason := missing_requirements():
        print(f"bench-faults: {reason}", file=sys.stderr)
        return 2
    gaps = run(arguments)
    if arguments.write_docs:
        write_docs(gaps)
    for name in missed(gaps):
        print(f"missed: {name}", file=sys.stderr)
    return 1 if missed(gaps) else 0


if __name__ == "__main__":
    sys.exit(main())
