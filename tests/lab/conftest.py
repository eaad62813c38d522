"""Lab tests need root and namespaces; they are skipped, with the reason, where those are missing."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from labnet import Lab, missing_requirements
from tutorial import Tutorial


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    lab_items = [item for item in items if item.path.is_relative_to(here)]
    if lab_items and (reason := missing_requirements()):
        for item in lab_items:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the daemons of its lab logged."""
    report = yield
    if report.failed and report.when != "teardown":
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Tutorial):
                report.sections.append(("daemons' logs", value.lab.logs()))
    return report


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty lab for one test."""
    with Lab("lab", log=print) as made:
        yield made


@pytest.fixture
def tutorial() -> Iterator[Tutorial]:
    """The tutorial's machines, with keys and files but nothing running."""
    with Lab("tut", log=print) as made:
        tutorial = Tutorial(made)
        tutorial.make_keys()
        tutorial.write_files()
        yield tutorial


@pytest.fixture
def running(tutorial: Tutorial) -> Tutorial:
    """The tutorial after its last `wh up`."""
    tutorial.up_all()
    return tutorial
