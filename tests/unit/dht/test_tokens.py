"""PUT tokens: to whom they are bound, and how long they last."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from wh.dht.records.tokens import ROTATION_S, TOKEN_LEN, TokenIssuer
from wh.wire.address import pack

deterministic = settings(derandomize=True, deadline=None)

KEY = b"\x09" * 32
ADDRESS = pack("192.0.2.1", 62096)
NOW = 1000.0


def issuer(seed: int = 1) -> TokenIssuer:
    return TokenIssuer(random.Random(seed).randbytes, NOW)


@deterministic
@given(made=st.floats(0, 4000), waited=st.floats(0, 4000))
def test_a_token_lives_one_rotation_at_least_and_two_at_most(made, waited):
    tokens = issuer()
    token = tokens.make(KEY, ADDRESS, NOW + made)
    assert len(token) == TOKEN_LEN
    good = tokens.check(token, KEY, ADDRESS, NOW + made + waited)
    assert good or waited >= ROTATION_S
    assert not good or waited < 2 * ROTATION_S


def test_a_steady_stream_of_requests_does_not_prolong_a_token():
    tokens = issuer()
    token = tokens.make(KEY, ADDRESS, NOW)
    answers = [tokens.check(token, KEY, ADDRESS, NOW + second) for second in range(0, 1000, 10)]
    assert answers == [second < 2 * ROTATION_S for second in range(0, 1000, 10)]


def test_a_token_is_for_one_node_at_one_address_of_one_server():
    tokens = issuer()
    token = tokens.make(KEY, ADDRESS, NOW)
    assert tokens.check(token, KEY, ADDRESS, NOW)
    assert not tokens.check(token, b"\x0a" * 32, ADDRESS, NOW)
    assert not tokens.check(token, KEY, pack("192.0.2.1", 62097), NOW)
    assert not tokens.check(token, KEY, pack("192.0.2.2", 62096), NOW)
    assert not issuer(seed=2).check(token, KEY, ADDRESS, NOW)


@deterministic
@given(st.binary(max_size=16))
def test_no_guess_is_accepted(guess):
    assert not issuer().check(guess, KEY, ADDRESS, NOW)
