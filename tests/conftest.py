"""What is tested is what users get: run from .venv, the tests must see the packages installed there."""

import signal
import sys
from pathlib import Path

import pytest

import whcore

REPOSITORY = Path(__file__).parent.parent
LONGEST_NAME = 40


def pytest_configure(config: pytest.Config) -> None:
    installed_run = Path(sys.prefix).is_relative_to(REPOSITORY)
    if installed_run and not Path(whcore.__file__).is_relative_to(sys.prefix):
        pytest.exit(f"whcore comes from {whcore.__file__}: run .venv/bin/pytest without PYTHONPATH", 2)
    # A shell without job control has its background jobs ignore both, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes and long texts may hold keys made at random: tests must have the same names in every process."""
    if isinstance(val, bytes) or (isinstance(val, str) and len(val) > LONGEST_NAME):
        return argname
    return None
