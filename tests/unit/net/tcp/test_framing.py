"""Datagrams in a stream, whatever the pieces are that the stream comes in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.net.tcp.framing import DATAGRAM_MAX, PREFACE, BadStream, Deframer, frame

DATAGRAMS = st.lists(st.binary(min_size=1, max_size=40), max_size=20)


def opened() -> Deframer:
    deframer = Deframer()
    assert deframer.feed_untrusted(PREFACE) == []
    return deframer


@given(DATAGRAMS, st.randoms(use_true_random=False))
@settings(derandomize=True, deadline=None)
def test_what_is_framed_comes_out_in_order_however_the_stream_is_cut(datagrams, rng):
    stream = PREFACE + frame(datagrams)
    deframer, found, at = Deframer(), [], 0
    while at < len(stream):
        piece = stream[at : at + rng.randint(1, 30)]
        found += deframer.feed_untrusted(piece)
        at += len(piece)
    assert deframer.prefaced
    assert found == datagrams


@given(st.lists(st.binary(max_size=300), max_size=30), st.booleans())
@settings(derandomize=True, deadline=None, max_examples=500)
def test_hostile_bytes_give_datagrams_or_an_end_and_nothing_else(pieces, prefaced):
    deframer = opened() if prefaced else Deframer()
    try:
        for piece in pieces:
            for datagram in deframer.feed_untrusted(piece):
                assert 0 < len(datagram) <= DATAGRAM_MAX
    except BadStream:
        pass


@given(st.binary(min_size=1, max_size=len(PREFACE)).filter(lambda data: not PREFACE.startswith(data)))
@settings(derandomize=True)
def test_a_stream_of_another_protocol_ends_at_its_first_wrong_byte(data):
    with pytest.raises(BadStream):
        Deframer().feed_untrusted(data)


@pytest.mark.parametrize("length", [0, DATAGRAM_MAX + 1, 0xFFFF])
def test_a_length_that_no_datagram_has_ends_the_stream(length: int):
    with pytest.raises(BadStream):
        opened().feed_untrusted(length.to_bytes(2, "big"))


def test_no_more_than_one_unfinished_datagram_is_held():
    deframer = opened()
    stream = frame([bytes(DATAGRAM_MAX)] * 100)
    for at in range(0, len(stream), 1000):
        deframer.feed_untrusted(stream[at : at + 1000])
        assert len(deframer._rest) <= DATAGRAM_MAX + 1


def test_what_is_no_datagram_of_ours_is_not_framed():
    assert frame([b"", bytes(DATAGRAM_MAX + 1), b"x"]) == b"\x00\x01x"
    assert frame([memoryview(b"ab")]) == b"\x00\x02ab"
