"""Check words: of 24 bits, and hard to mix up. Where they come from is in test_exchange.py."""

from hypothesis import given, settings
from hypothesis import strategies as st

from wh.trust.words import WORDS, WORDS_SHOWN, check_words


def test_a_byte_chooses_a_word_and_no_two_begin_alike():
    assert len(WORDS) == 256
    assert len({word[:4] for word in WORDS}) == 256
    assert all(word.isascii() and word.isalpha() and word.islower() and len(word) <= 8 for word in WORDS)


@given(st.lists(st.binary(min_size=32, max_size=32)))
@settings(derandomize=True)
def test_there_are_three_words(transcript: list[bytes]):
    words = check_words(*transcript)
    assert len(words) == WORDS_SHOWN
    assert set(words) <= set(WORDS)


def test_the_words_of_a_transcript_never_change():
    assert check_words(b"a" * 32, b"b" * 32, b"c" * 32) == ("radio", "orbit", "apron")
