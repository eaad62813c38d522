"""What is logged, and how, is for whoever operates a daemon: levels, codes, the journal's priorities."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator

import pytest

from wh.errors import Code, SystemSetupError, UsageError
from wh.system import logs

OURS, THEIRS = logging.getLogger("wh.of_a_test"), logging.getLogger("pyroute2.of_a_test")
ERROR = SystemSetupError("no IPv6", code=Code.NO_IPV6, hint="allow it")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("wh")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


def test_the_level_is_for_our_modules_alone(capsys: pytest.CaptureFixture[str]):
    logs.configure({"WH_LOG": "debug"})
    OURS.debug("ours")
    THEIRS.info("theirs")
    THEIRS.warning("their warning")
    said = capsys.readouterr().err
    assert "DEBUG wh.of_a_test: ours" in said and "their warning" in said
    assert "theirs" not in said


def test_a_level_that_is_none_is_an_error():
    with pytest.raises(UsageError) as raised:
        logs.configure({"WH_LOG": "bogus"})
    assert "debug, info, warning, error" in raised.value.hint
    assert OURS.isEnabledFor(logging.INFO)


def test_a_logged_error_has_its_code_and_what_to_do(capsys: pytest.CaptureFixture[str]):
    logs.configure({})
    OURS.warning("without: %s", ERROR)
    assert "without: no IPv6 [WH220] (allow it)" in capsys.readouterr().err


def test_the_journal_hears_priorities_and_no_second_time(capfd: pytest.CaptureFixture[str]):
    status = os.fstat(sys.stderr.fileno())
    logs.configure({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    OURS.warning("one\ntwo")
    OURS.error("three")
    said = capfd.readouterr().err.splitlines()
    assert said == ["<4>wh.of_a_test: one", "<4>two", "<3>wh.of_a_test: three"]
