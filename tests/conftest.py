"""What is tested is what users get: run from .venv, the tests must see the packages installed there."""

import sys
from pathlib import Path

import pytest

import whcore

REPOSITORY = Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    installed_run = Path(sys.prefix).is_relative_to(REPOSITORY)
    if installed_run and not Path(whcore.__file__).is_relative_to(sys.prefix):
        pytest.exit(f"whcore comes from {whcore.__file__}: run .venv/bin/pytest without PYTHONPATH", 2)
