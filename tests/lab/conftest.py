"""Lab tests need root and namespaces; they are skipped, with the reason, where those are missing."""

from collections.abc import Iterator

import pytest
from labnet import Lab, missing_requirements


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any("tests/lab/" in item.path.as_posix() for item in items) and (reason := missing_requirements()):
        for item in items:
            if "tests/lab/" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab for one test. What was run in it, and the daemons' logs, are printed where the test fails."""
    with Lab("lab", log=print) as made:
        yield made
        print(made.logs())
