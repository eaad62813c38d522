"""The table of error codes and the code base agree."""

import re
from pathlib import Path

import pytest

from wh.errors import Code, ConfigError, ConfigErrors, UserError
from whcore.errors import InvalidKey, WireHubError

ROOT = Path(__file__).parents[3]


def test_every_code_in_the_sources_is_registered():
    sources = [path for top in ("wh", "whcore", "tools") for path in (ROOT / top).rglob("*.py*")]
    used = {
        code
        for path in sources
        if path.suffix in (".py", ".pyx", ".pyi", ".pxd")
        for code in re.findall(r"\bWH\d{3}\b", path.read_text(encoding="utf-8"))
    }
    assert used <= set(Code)


def test_every_code_has_a_meaning_that_fits_one_line():
    assert all(0 < len(code.meaning) <= 80 and "\n" not in code.meaning for code in Code)
    assert len({code.meaning for code in Code}) == len(Code)


def test_user_errors_and_core_errors_are_one_tree():
    error = UserError("what", code=Code.PORT_TAKEN, hint="do", place="f:1:2")
    assert isinstance(error, WireHubError)
    assert (str(error), error.code, error.hint, error.place) == ("what", "WH214", "do", "f:1:2")
    assert InvalidKey("x").code == Code.BAD_KEY


def test_several_errors_show_all_and_answer_for_the_first():
    errors = ConfigErrors((ConfigError("a", code="WH112", place="f:1:1"), ConfigError("b", place="f:2:1")))
    assert str(errors) == "f:1:1: a\nf:2:1: b"
    assert (errors.code, errors.place, len(errors.errors)) == ("WH112", "f:1:1", 2)
    with pytest.raises(ConfigError):
        raise errors
