"""Check words that nobody can choose: the exchange of a claim, and somebody between its ends who tries."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import blake2s

import pytest

from wh.trust.exchange import (
    EXCHANGES_BURST,
    EXCHANGES_INTERVAL_S,
    PENDING_MAX,
    PENDING_S,
    Claim,
    Exchanges,
    Offer,
)
from wh.trust.words import WORDS

A, B, ALIAS = b"a" * 32, b"b" * 32, b"x" * 32
HASH, OTHER_HASH = b"h" * 32, b"i" * 32
SEED = 20180704
GRIND = 3000


def exchanges() -> Exchanges:
    return Exchanges(B, random.Random(SEED).randbytes)


def offer(nonce: bytes = b"n" * 32, handshake_hash: bytes = HASH, claimant: bytes = A) -> Offer:
    return Offer(Claim(handshake_hash, claimant, B, ALIAS), nonce)


def test_both_ends_come_to_the_same_words_whichever_keys_of_the_session_are_in_use():
    server, claimant = exchanges(), offer()
    nonce = server.answer(A, ALIAS, claimant.commitment, (OTHER_HASH, HASH), 0)
    assert nonce is not None
    claimant.answered(nonce)
    assert len(claimant.words()) == 3
    assert server.reveal(A, ALIAS, claimant.nonce, 1) == claimant.words()
    assert server.reveal(A, ALIAS, claimant.nonce, 2) == claimant.words()  # its answer was lost


def test_words_depend_on_all_that_the_claim_is_made_of():
    parts = [HASH, A, B, ALIAS]
    words = {Claim(*parts).words(b"1" * 32, b"2" * 32), Claim(*parts).words(b"2" * 32, b"1" * 32)}
    for i in range(len(parts)):
        words.add(Claim(*parts[:i], b"z" * 32, *parts[i + 1 :]).words(b"1" * 32, b"2" * 32))
    assert len(words) == 2 + len(parts)


def test_a_repeated_commitment_gets_the_same_nonce_and_is_no_further_exchange():
    server, claimant = exchanges(), offer()
    nonces = {server.answer(A, ALIAS, claimant.commitment, (HASH,), 0) for _ in range(100)}
    assert len(nonces) == 1


def test_the_claimant_takes_one_nonce_only():
    claimant = offer()
    claimant.answered(b"1" * 32)
    words = claimant.words()
    claimant.answered(b"2" * 32)
    assert claimant.words() == words


@pytest.mark.parametrize(
    "reveal", ["another nonce", "another key", "too late", "never offered", "another session"]
)
def test_what_was_not_committed_to_opens_nothing(reveal: str):
    server, claimant = exchanges(), offer()
    if reveal != "never offered":
        hashes = (OTHER_HASH,) if reveal == "another session" else (HASH,)
        server.answer(A, ALIAS, claimant.commitment, hashes, 0)
    key = b"c" * 32 if reveal == "another key" else A
    nonce = b"m" * 32 if reveal == "another nonce" else claimant.nonce
    assert server.reveal(key, ALIAS, nonce, PENDING_S if reveal == "too late" else 1) is None


def test_a_wrong_nonce_ends_the_exchange():
    server, claimant = exchanges(), offer()
    server.answer(A, ALIAS, claimant.commitment, (HASH,), 0)
    assert server.reveal(A, ALIAS, b"m" * 32, 1) is None
    assert server.reveal(A, ALIAS, claimant.nonce, 1) is None


def answered(server: Exchanges, alias: bytes, tries: int, now: float) -> int:
    """By keys of one's own, as many as one likes."""
    return sum(
        server.answer(number.to_bytes(32, "big"), alias, bytes(28) + number.to_bytes(4, "big"), (HASH,), now)
        is not None
        for number in range(tries)
    )


def test_an_alias_has_few_exchanges_whoever_asks():
    server = exchanges()
    assert answered(server, ALIAS, 1000, 0) == EXCHANGES_BURST
    assert answered(server, b"y" * 32, 1, 0) == 1
    assert answered(server, ALIAS, 1000, 3 * EXCHANGES_INTERVAL_S) == 3


def test_exchanges_are_bounded():
    server = exchanges()
    for number in range(PENDING_MAX + 10):
        assert answered(server, number.to_bytes(32, "big"), 1, 0) == 1
    assert len(server._pending) == PENDING_MAX


# Somebody between. He gave A an invitation of his own, and has B's. He makes as many keys as he likes, and
# both ends answer him as the protocol says; what he must not get is the same words at both.


class Between:
    """Has a session with A, who claims an alias of his, and one with B, where he claims. One of the two is
    finished first; in the other he can still choose something, and knows which words he wants."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.server = Exchanges(B, self.random.randbytes)

    def a_begins(self) -> tuple[Offer, Claim]:
        """A commits, at a key of his; the session's hash is what nobody chooses."""
        claim = Claim(self.random.randbytes(32), A, self.random.randbytes(32), self.random.randbytes(32))
        return Offer(claim, self.random.randbytes(32)), claim

    def chosen(self, words_of: Callable[[bytes], tuple[str, ...]], wanted: tuple[str, ...]) -> bytes:
        """Of many nonces the one that looks best to him."""
        nonces = [self.random.randbytes(32) for _ in range(GRIND)]
        return max(nonces, key=lambda nonce: matching(words_of(nonce), wanted))

    def a_first(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A's words are known; in B's session only the commitment can be chosen, before B's nonce."""
        offer, _ = self.a_begins()
        offer.answered(self.random.randbytes(32))
        wanted = offer.words()
        claim = Claim(self.random.randbytes(32), self.random.randbytes(32), B, ALIAS)
        guess = self.random.randbytes(32)  # what he takes B's nonce to be
        nonce = self.chosen(lambda mine: claim.words(mine, guess), wanted)
        theirs = self.server.answer(
            claim.claimant, ALIAS, claim.commitment(nonce), (claim.handshake_hash,), 0
        )
        assert theirs is not None
        words = self.server.reveal(claim.claimant, ALIAS, nonce, 0)
        assert words is not None
        return wanted, words

    def b_first(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """B's words are known; in A's session only his nonce can be chosen, before A's."""
        offer, claim = self.a_begins()
        mine = Claim(self.random.randbytes(32), self.random.randbytes(32), B, ALIAS)
        nonce = self.random.randbytes(32)
        assert self.server.answer(mine.claimant, ALIAS, mine.commitment(nonce), (mine.handshake_hash,), 0)
        wanted = self.server.reveal(mine.claimant, ALIAS, nonce, 0)
        assert wanted is not None
        guess = self.random.randbytes(32)  # what he takes A's nonce to be
        assert claim.commitment(guess) != offer.commitment
        offer.answered(self.chosen(lambda theirs: claim.words(guess, theirs), wanted))
        return offer.words(), wanted


def matching(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("order", ["a_first", "b_first"])
def test_who_is_between_gets_no_word_more_than_by_chance(order: str):
    matches = 0
    for seed in range(60):
        matches += matching(*getattr(Between(SEED + seed), order)())
    print(f"{matches} of 180 words agree")
    assert matches <= 6  # expected: 0.7


def test_words_of_keys_alone_would_be_found_in_a_moment():
    """What the attacker above does is enough against words that depend on what he chooses last."""
    source = random.Random(SEED)
    wanted = tuple(source.choice(WORDS) for _ in range(2))

    def words_of(key: bytes) -> tuple[str, ...]:
        return tuple(WORDS[byte] for byte in blake2s(A + key).digest()[:2])

    assert any(words_of(number.to_bytes(32, "big")) == wanted for number in range(1_000_000))
