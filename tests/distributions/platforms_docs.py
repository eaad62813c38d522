"""The table of docs/platforms.md, a row for each distribution; a run replaces its own."""

from __future__ import annotations

import datetime
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
DOCUMENT = REPOSITORY / "docs/platforms.md"
BEGIN, END = "<!-- rows: written by test-distributions, not by hand -->", "<!-- end of rows -->"


@dataclass
class Row:
    """What is known of one run; durations in seconds, None where nobody counts them."""

    name: str
    debian: str = ""
    machine: str = ""
    python: str = ""
    libraries: str = ""
    build_s: float | None = None
    tests: str = ""
    test_s: float | None = None
    demo_s: float | None = None
    failed: str = ""

    def cells(self, today: str, commit: str) -> list[str]:
        demo = duration(self.demo_s)
        tests = f"{self.tests}, {duration(self.test_s)}" if self.test_s else self.tests
        what = [f"{self.debian}, {self.machine}", self.python, self.libraries, duration(self.build_s)]
        return [self.name, *what, tests, demo, self.failed or "passed", f"{today}, {commit}"]


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def write_docs(row: Row, document: Path = DOCUMENT) -> None:
    today = datetime.date.today().isoformat()
    text = document.read_text()
    head, rest = text.split(BEGIN + "\n")
    table, tail = rest.split(END)
    document.write_text(f"{head}{BEGIN}\n{with_row(table, row.cells(today, commit()))}{END}{tail}")
    print(f"{document.relative_to(document.parent.parent)}: {row.name}, on {platform.release()}")


def with_row(table: str, cells: list[str]) -> str:
    """table: markdown whose rows begin with their names."""
    new = f"| {' | '.join(cells)} |"
    lines = table.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(f"| {cells[0]} |"):
            lines[number] = new
            break
    else:
        lines.append(new)
    return "\n".join(lines) + "\n"


def commit() -> str:
    words = ["git", "-C", str(REPOSITORY), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() or "?"
