"""Tests in real containers: slow, with the images that `make sandbox` built, as root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from container_engine import Engine, missing_requirements


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    ours = [item for item in items if item.path.is_relative_to(here)]
    reason = missing_requirements() if ours else ""
    for item in ours:
        item.add_marker(pytest.mark.slow)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """What a file's tests make is gone when they have ended, however."""
    with Engine(tmp_path_factory.mktemp("containers")) as made:
        yield made
    assert made.left() == []
