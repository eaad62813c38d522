"""What every bench prints and keeps: figures with their goals, and what they were measured on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
RESULTS = REPOSITORY / "bench-results"
DEPENDENCIES = ("wirehub", "click", "msgspec", "uvloop")


@dataclass(frozen=True)
class Figure:
    """One measurement. The goal is a limit that value must stay under, or reach where at_least is set."""

    name: str
    value: float
    unit: str
    goal: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def row(self) -> str:
        goal = f"{'>=' if self.at_least else '<='} {self.goal:,g} {self.unit}"
        return (
            f"{'PASS' if self.passed else 'FAIL'}  {self.name:<56} {self.value:>12,.4g} {self.unit:<7} {goal}"
        )


def machine() -> dict[str, object]:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next(
        (line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if "model name" in line), "?"
    )
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release()}


def commit() -> str:
    """The commit's hash, with + where files differ from it; ? outside of a clone."""
    describe = [
        "git",
        "-C",
        str(REPOSITORY),
        "describe",
        "--always",
        "--abbrev=12",
        "--exclude=*",
        "--dirty=+",
    ]
    answer = subprocess.run(describe, capture_output=True, text=True)
    return answer.stdout.strip() or "?"


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in DEPENDENCIES
    }


def write_result(bench: str, body: dict[str, object]) -> Path:
    """Keep a bench's outcome as JSON in bench-results/, with what it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    result = {"bench": bench, "commit": commit(), "machine": machine(), "versions": versions()} | body
    path = RESULTS / f"{bench}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {path.relative_to(REPOSITORY)}")
    return path


def report(bench: str, figures: list[Figure]) -> bool:
    """Print a table, keep the JSON, and say whether all goals were met."""
    for figure in figures:
        print(figure.row())
    write_result(bench, {"figures": [asdict(figure) | {"passed": figure.passed} for figure in figures]})
    return all(figure.passed for figure in figures)
