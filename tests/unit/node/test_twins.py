"""One key, two running nodes: heard in turn they are told from a restart, and from a lie."""

from __future__ import annotations

from wh.engine.events import Instant
from wh.node.twins import KEYS_MAX, Twins

MEMBER, STRANGER = bytes([9]) + bytes(31), bytes([7]) + bytes(31)
A, B = 11, 22


def twins() -> Twins:
    return Twins(lambda key: key == MEMBER)


def heard(made: Twins, *spoken: tuple[float, int]) -> list[bool]:
    return [made.hear(MEMBER, instance, Instant(at, at)) for at, instance in spoken]


def test_two_that_speak_in_turn_are_told():
    made = twins()
    assert heard(made, (0, A), (5, B), (10, A), (15, B)) == [False, False, True, True]
    assert made.others == (MEMBER,)


def test_a_restart_is_none_however_often():
    made = twins()
    assert not any(heard(made, (0, A), (10, A), (20, B), (30, B), (40, 33), (50, 44)))


def test_a_late_word_of_the_run_before_is_none():
    assert not any(heard(twins(), (0, A), (10, B), (11.5, A), (20, B), (30, B)))


def test_a_twin_that_has_gone_is_forgotten():
    made = twins()
    assert heard(made, (0, A), (5, B), (10, A), (60, A), (75, A)) == [False, False, True, True, False]
    assert made.others == ()


def test_who_does_not_say_which_run_it_is_says_nothing():
    assert not any(heard(twins(), (0, 0), (5, B), (10, 0), (15, B)))


def test_one_stranger_cannot_tell_us_that_our_key_is_used_twice():
    made = twins()
    made.told(STRANGER, True)
    assert not made.own
    made.told(bytes(32), True)
    assert made.own
    made.told(STRANGER, False)
    assert not made.own
    made.told(MEMBER, True)
    assert made.own


def test_nobody_fills_the_table():
    made = twins()
    for number in range(KEYS_MAX + 50):
        made.hear(number.to_bytes(32, "big"), A, Instant(number, number))
    assert len(made._heard) == KEYS_MAX
