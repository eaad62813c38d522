"""The one invitation is found in whatever chats, mails and editors made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wh.errors import Code, InvitationError
from wh.trust.invitation import Invitation, decode_untrusted, encode
from wh.trust.pasting import is_found, word_of_untrusted
from whcore.keys import SecretKey

SERVER = SecretKey.generate().public_key
WORD = encode(Invitation(SERVER, bytes(16), network_name="home"))
ORIGINAL = "A" * 43 + "BB" + "A" * 41


@pytest.mark.parametrize(
    "text",
    [
        WORD,
        f"{WORD}\n",
        WORD.upper(),
        f"0nc {WORD}",
        f"wh join {WORD} interface wh0",
        f"`{WORD}`",
        f"\u201c{WORD}\u201d.",
        f"> > {WORD[:60]}\n> > {WORD[60:]}\n\nsee you",
        f"\ufeff{WORD}\r\n",
        f"{WORD[:10]}\u200b{WORD[10:20]}\u00ad{WORD[20:]}",
        f"w\u200bh2{WORD[3:]}",
        f"{WORD[:50]}=\n{WORD[50:]}",
        f"the wh2 word is this: {WORD} thanks, keep it",
        f"<code>{WORD}</code>",
        f"{WORD} and once more {WORD}",
        "\0".join(WORD),
    ],
)
def test_it_is_found(text: str):
    assert word_of_untrusted(text) == WORD
    assert is_found(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", Code.INVITATION_MALFORMED),
        ("no such thing", Code.INVITATION_MALFORMED),
        (f"> {WORD[:-10]} <", Code.INVITATION_TRUNCATED),
        (f"> {WORD[:-3]}aaa <", Code.INVITATION_MISTYPED),
        (f"0nc {WORD[:80]}0{WORD[81:]}", Code.INVITATION_MISTYPED),
        (f"0nc wh3{WORD[3:]}", Code.INVITATION_VERSION),
    ],
)
def test_what_is_wrong_is_said_of_the_word_and_not_of_what_is_around_it(text: str, code: Code):
    assert not is_found(text)
    with pytest.raises(InvitationError) as raised:
        decode_untrusted(word_of_untrusted(text))
    assert raised.value.code == code


def test_one_of_2018_is_found_too():
    assert word_of_untrusted(f"use {ORIGINAL}\nplease") == ORIGINAL


def test_two_invitations_are_one_too_many():
    other = encode(Invitation(SERVER, bytes([1]) * 16))
    with pytest.raises(InvitationError, match="2 invitations"):
        word_of_untrusted(f"{WORD}\n{other}")


@given(st.text(max_size=200), st.text(st.characters(max_codepoint=0x2100), max_size=200))
def test_no_text_around_it_hides_it_or_becomes_a_part(before: str, after: str):
    assert word_of_untrusted(f"{before} {WORD}\n{after}") in (WORD,)


@given(st.text(max_size=5000))
def test_any_text_gives_some_word(text: str):
    word_of_untrusted(text)
