"""The core's exception tree, as users and callers see it."""

import pickle

import pytest

from whcore import aead
from whcore.errors import BadPacket, InvalidKey, SystemFailure, WireHubError


@pytest.mark.parametrize(
    ("kind", "code"), [(InvalidKey, "WH101"), (BadPacket, "WH201"), (SystemFailure, "WH301")]
)
def test_each_kind_has_its_own_stable_code(kind: type[WireHubError], code: str) -> None:
    error = kind("what happened")
    assert (error.code, error.hint, error.place) == (code, "", None)
    assert isinstance(error, WireHubError)


def test_str_is_the_message_alone() -> None:
    error = WireHubError("no such peer", code="WH999", hint="check the name", place="net:3:7")
    assert str(error) == "no such peer"
    assert (error.code, error.hint, error.place) == ("WH999", "check the name", "net:3:7")
    assert WireHubError("other").code != "WH999"


def test_an_invalid_key_is_a_value_error_for_those_who_know_only_python() -> None:
    assert issubclass(InvalidKey, ValueError)
    assert not issubclass(BadPacket, ValueError)


def test_errors_cross_process_borders_whole() -> None:
    error = pickle.loads(pickle.dumps(InvalidKey("bad", hint="look", place="f:1:2")))  # noqa: S301
    assert (str(error), error.code, error.hint, error.place) == ("bad", "WH101", "look", "f:1:2")


def test_a_return_code_becomes_an_exception_that_says_what_was_tried() -> None:
    with pytest.raises(BadPacket, match="^open: wrong length$"):
        aead.open(bytes(32), 0, bytes(15))
    with pytest.raises(BadPacket, match="^open: authentication tag does not verify$"):
        aead.open(bytes(32), 0, bytes(16))
