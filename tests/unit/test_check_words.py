"""Check words: the same on both ends, others for anybody else, and words that are hard to mix up."""

from hypothesis import given, settings
from hypothesis import strategies as st

from wh.trust.words import WORDS, WORDS_SHOWN, check_words

keys = st.binary(min_size=32, max_size=32)


def test_a_byte_chooses_a_word_and_no_two_begin_alike():
    assert len(WORDS) == 256
    assert len({word[:4] for word in WORDS}) == 256
    assert all(word.isascii() and word.isalpha() and word.islower() and len(word) <= 8 for word in WORDS)


@given(keys, keys, keys)
@settings(derandomize=True)
def test_both_ends_show_the_same_three_words(one: bytes, other: bytes, alias: bytes):
    words = check_words(one, other, alias)
    assert words == check_words(other, one, alias)
    assert len(words) == WORDS_SHOWN
    assert set(words) <= set(WORDS)


def test_another_key_or_alias_gives_other_words():
    given = check_words(b"a" * 32, b"b" * 32, b"c" * 32)
    assert given != check_words(b"a" * 32, b"c" * 32, b"b" * 32)
    assert given != check_words(b"a" * 32, b"x" * 32, b"c" * 32)


def test_the_words_of_three_keys_never_change():
    assert check_words(b"a" * 32, b"b" * 32, b"c" * 32) == ("radio", "orbit", "apron")
