"""Tokens that prove that whoever sends a PUT receives at its address (docs/protocol.md section 3)."""

from __future__ import annotations

import hmac
from hashlib import blake2s

from wh.dht.table.metric import RandomBytes
from wh.wire.address import Address
from wh.wire.public_key import Key

TOKEN_LEN = 8
ROTATION_S = 5 * 60
_SECRET_LEN = 32


class TokenIssuer:
    """Makes and checks tokens without keeping any: keyed BLAKE2s over key and address.

    A token is good for 5 to 10 minutes, while the secret it was made with is the current or the previous one.
    Times are monotonic seconds.
    """

    def __init__(self, random_bytes: RandomBytes, now: float) -> None:
        self._random_bytes = random_bytes
        self._current = random_bytes(_SECRET_LEN)
        self._previous = random_bytes(_SECRET_LEN)
        self._rotate_at = now + ROTATION_S

    def make(self, key: Key, address: Address, now: float) -> bytes:
        """8 bytes for the node with this key at this address."""
        self._rotate(now)
        return _token(self._current, key, address)

    def check(self, token: bytes, key: Key, address: Address, now: float) -> bool:
        """Whether make() gave this token to this key and address within the last two rotations."""
        self._rotate(now)
        of_current = hmac.compare_digest(token, _token(self._current, key, address))
        of_previous = hmac.compare_digest(token, _token(self._previous, key, address))
        return of_current or of_previous

    def _rotate(self, now: float) -> None:
        if now < self._rotate_at:
            return
        stale = now >= self._rotate_at + ROTATION_S  # nothing was asked for a whole period
        self._previous = self._random_bytes(_SECRET_LEN) if stale else self._current
        self._current = self._random_bytes(_SECRET_LEN)
        self._rotate_at = now + ROTATION_S


def _token(secret: bytes, key: Key, address: Address) -> bytes:
    return blake2s(key + address, key=secret, digest_size=TOKEN_LEN).digest()
