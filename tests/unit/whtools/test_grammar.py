"""The keyword grammar: both spellings mean the same, and a key is never taken for an option."""

from __future__ import annotations

import base64
import itertools
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whtools.grammar import GrammarError, MissingValueError, Words, is_key_shaped, parse

UP = Words({"private-key": True, "interface": True, "listen-port": True, "mode": True, "no-hosts": False}, 1)
SHOW = Words({"json": False}, optional=2)
PAIR = Words({"count": True}, required=2)


def key_text(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).decode().rstrip("=")


HYPHEN_KEYS = list(
    itertools.islice(
        (key for number in itertools.count() if (key := key_text(number.to_bytes(32, "little")))[0] == "-"), 4
    )
)
KEYS = st.binary(min_size=32, max_size=32).map(key_text)
BARE = "./net private-key ./a.sk interface wh0 listen-port 1 mode nat no-hosts"
LONG = "./net --private-key ./a.sk --interface wh0 --listen-port 1 --mode nat --no-hosts"
EQUALS = "--no-hosts --mode=nat --listen-port=1 --interface=wh0 --private-key=./a.sk ./net"


@pytest.mark.parametrize("line", [BARE, LONG, EQUALS])
def test_both_spellings_mean_the_same(line: str) -> None:
    parsed = parse(shlex.split(line), UP)
    assert parsed.positional == ["./net"]
    assert parsed.options == {
        "private-key": "./a.sk",
        "interface": "wh0",
        "listen-port": "1",
        "mode": "nat",
        "no-hosts": None,
    }


@settings(derandomize=True, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["private-key", "interface", "mode"]), st.text(min_size=1)),
    st.data(),
)
def test_options_come_back_whatever_their_spelling_and_value(
    values: dict[str, str], data: st.DataObject
) -> None:
    arguments = ["net"]
    for name, value in values.items():
        arguments += data.draw(st.sampled_from([[name, value], [f"--{name}", value], [f"--{name}={value}"]]))
    assert parse(arguments, UP).options == values


def test_a_required_word_may_look_like_an_option_name() -> None:
    assert parse(["mode", "mode", "nat"], UP).positional == ["mode"]
    assert parse(["wh0", "count", "count", "3"], PAIR).positional == ["wh0", "count"]


@pytest.mark.parametrize("key", HYPHEN_KEYS)
def test_a_key_with_a_leading_hyphen_is_a_value_everywhere(key: str) -> None:
    assert parse([key, key], PAIR).positional == [key, key]
    assert parse([key + "="], UP).positional == [key + "="]
    assert parse(["net", "interface", key], UP).options == {"interface": key}
    assert parse(["net", "--interface", key], UP).options == {"interface": key}


@settings(derandomize=True, deadline=None)
@given(st.lists(KEYS, min_size=2, max_size=2))
def test_any_two_keys_are_two_words_and_stay_so_for_click(pair: list[str]) -> None:
    parsed = parse(pair, PAIR)
    assert parsed.positional == pair
    assert parsed.for_click()[-3:] == ["--", *pair]


@pytest.mark.parametrize(
    "word", ["", "-", "--help", "-" * 42, "-" * 45, "=" * 43, "-" * 42 + "é", "-" * 43 + "a"]
)
def test_what_cannot_be_a_key(word: str) -> None:
    assert not is_key_shaped(word)


@pytest.mark.parametrize(
    ("line", "message", "suggestion"),
    [
        ("net --private-kez x", "unknown option --private-kez", "--private-key"),
        ("net privat-key x", "unexpected word 'privat-key'", "private-key"),
        ("net -x", "unknown option -x", None),
        ("net mode nat --mode nat", "--mode is given twice", None),
        ("net --no-hosts=1", "--no-hosts takes no value", None),
        ("net other", "unexpected word 'other'", None),
    ],
)
def test_a_word_without_a_place_names_the_nearest(line: str, message: str, suggestion: str | None) -> None:
    with pytest.raises(GrammarError) as caught:
        parse(line.split(), UP)
    assert (str(caught.value), caught.value.suggestion) == (message, suggestion)


def test_an_option_at_the_end_misses_its_value() -> None:
    with pytest.raises(MissingValueError) as caught:
        parse(["net", "mode"], UP)
    assert caught.value.option == "mode"


def test_help_is_asked_for_by_word_or_option_but_not_as_a_value() -> None:
    assert parse(["help"], UP).for_click() == ["--help"]
    assert parse(["net", "-h"], UP).wants_help
    assert not parse(["net", "interface", "help"], UP).wants_help


def test_two_hyphens_end_the_options() -> None:
    assert parse(["--", "--json", "json"], SHOW).positional == ["--json", "json"]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.one_of(st.text(), st.sampled_from([*UP.options, "--", "-", "--mode=", "help", "-h"]))))
def test_no_words_raise_anything_but_a_grammar_error(arguments: list[str]) -> None:
    try:
        parsed = parse(arguments, UP)
    except GrammarError:
        return
    assert len(parsed.positional) <= UP.required + UP.optional
