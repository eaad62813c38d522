"""Hostile datagrams: random, truncated, oversized, mutations of real ones; a seed always gives the same."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence

DATAGRAM_LEN_MAX = 1472
"""What fits an Ethernet frame over IPv4."""
OVERSIZED_LEN = 9000

WIREGUARD_TYPES = [bytes((kind, 0, 0, 0)) for kind in (1, 2, 3, 4)]
WIREHUB_TYPES = [bytes((0xFF, 2, kind, 0)) for kind in range(1, 8)]

INITIATION = b"\x01\0\0\0"
INIT = b"\xff\x02\x01\0"
MAC_LEN = 16

Mutation = Callable[["Source"], bytes]


class Source:
    """Where mutations take their randomness, real datagrams and the target's key from."""

    def __init__(self, seed: int, corpus: Sequence[bytes], public_key: bytes) -> None:
        """corpus: datagrams as they were seen on the wire. public_key: the target's."""
        self.random = random.Random(seed)
        self.corpus = corpus or [INIT + bytes(544)]
        self._mac1_keys = {
            INITIATION: hashlib.blake2s(b"mac1----" + public_key).digest(),
            INIT: hashlib.blake2s(b"wh2 mac1" + public_key + bytes(32)).digest(),
        }

    def real(self) -> bytearray:
        return bytearray(self.random.choice(self.corpus))

    def with_mac1(self, datagram: bytes) -> bytes:
        """The datagram with a mac1 that verifies, where its type has one: it gets past the first check."""
        key = self._mac1_keys.get(datagram[:4])
        if key is None or len(datagram) < 4 + 2 * MAC_LEN:
            return datagram
        body = datagram[: -2 * MAC_LEN]
        mac1 = hashlib.blake2s(body, key=key, digest_size=MAC_LEN).digest()
        return body + mac1 + datagram[-MAC_LEN:]


def random_bytes(source: Source) -> bytes:
    return source.random.randbytes(source.random.randrange(DATAGRAM_LEN_MAX + 1))


def random_after_header(source: Source) -> bytes:
    header = source.random.choice(WIREGUARD_TYPES + WIREHUB_TYPES)
    return header + source.random.randbytes(source.random.choice((0, 8, 28, 60, 88, 144, 544, 1196)))


def truncated(source: Source) -> bytes:
    datagram = source.real()
    return bytes(datagram[: source.random.randrange(len(datagram))])


def extended(source: Source) -> bytes:
    return bytes(source.real()) + source.random.randbytes(source.random.randrange(1, 400))


def oversized(source: Source) -> bytes:
    return source.random.choice(WIREHUB_TYPES) + source.random.randbytes(OVERSIZED_LEN)


def bits_flipped(source: Source) -> bytes:
    datagram = source.real()
    for _ in range(source.random.randrange(1, 9)):
        datagram[source.random.randrange(len(datagram))] ^= 1 << source.random.randrange(8)
    return bytes(datagram)


def spliced(source: Source) -> bytes:
    first, second = source.real(), source.real()
    return bytes(
        first[: source.random.randrange(len(first))] + second[source.random.randrange(len(second)) :]
    )


def replayed(source: Source) -> bytes:
    return bytes(source.real())


def flipped_behind_valid_mac1(source: Source) -> bytes:
    return source.with_mac1(bits_flipped(source))


def random_behind_valid_mac1(source: Source) -> bytes:
    header, body_len = source.random.choice([(INITIATION, 144), (INIT, 144), (INIT, 544), (INIT, 1196)])
    return source.with_mac1(header + source.random.randbytes(body_len))


MUTATIONS: dict[Mutation, int] = {
    random_bytes: 20,
    random_after_header: 20,
    truncated: 15,
    extended: 10,
    oversized: 1,
    bits_flipped: 15,
    spliced: 7,
    replayed: 7,
    flipped_behind_valid_mac1: 3,
    random_behind_valid_mac1: 2,
}
"""Mutation -> weight. A valid mac1 costs the target a Diffie-Hellman, so those are few."""


def hostile_datagrams(source: Source, count: int) -> Iterator[bytes]:
    chosen = source.random.choices(list(MUTATIONS), weights=list(MUTATIONS.values()), k=count)
    return (mutation(source) for mutation in chosen)
