"""The table that `make test-distributions` writes; tests/distributions/test_roots.py makes roots for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributions import DISTRIBUTIONS, counts
from platforms_docs import BEGIN, DOCUMENT, END, Row, duration, with_row, write_docs

PYTEST_LINES = [
    "....  [100%]",
    "2 failed in x",
    "===== 3034 passed, 9 skipped, 41 warnings in 601.23s (0:10:01) =====",
]


def test_the_counts_are_those_of_the_last_line() -> None:
    assert counts(PYTEST_LINES) == "3034 passed, 9 skipped, 41 warnings"
    assert counts(["112 passed in 9.31s"]) == "112 passed"
    assert counts(["no tests ran"]) == ""


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (9.4, "9 s"), (661, "11 min 1 s")])
def test_a_duration_is_minutes_and_seconds(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_run_replaces_its_own_row() -> None:
    table = with_row("| name |\n| --- |\n| a | 1 |\n| b | 2 |\n", ["a", "3"])
    assert table == "| name |\n| --- |\n| a | 3 |\n| b | 2 |\n"
    assert with_row(table, ["c", "4"]).endswith("| b | 2 |\n| c | 4 |\n")


def test_the_document_keeps_all_around_the_table(tmp_path: Path) -> None:
    document = tmp_path / "docs" / "platforms.md"
    document.parent.mkdir()
    document.write_text(DOCUMENT.read_text())
    write_docs(Row("none", debian="Debian 0", failed="make test: exit code 2"), document)
    before, after = DOCUMENT.read_text(), document.read_text()
    for marker, side in ((BEGIN, 0), (END, 1)):
        assert before.split(marker)[side] == after.split(marker)[side]
    (row,) = [line for line in after.splitlines() if line.startswith("| none |")]
    assert "make test: exit code 2" in row
    header = next(line for line in after.splitlines() if line.startswith("| name |"))
    assert row.count("|") == header.count("|")


def test_the_document_explains_all_of_them() -> None:
    text = DOCUMENT.read_text().split(BEGIN)[0]
    assert [name for name in DISTRIBUTIONS if name not in text] == ["bookworm"]
