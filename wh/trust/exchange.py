"""How the check words of a claim come about (docs/protocol.md section 9): commit, answer, reveal.

Two people compare 24 bits. Whoever stands between the two ends, with keys of his own, has a session with
each, and needs the same words in both. He could try keys until they agree, if the words were of keys
alone. So they are of two nonces too: the claimant's is committed to before it knows the server's, and
shown after. Each end has chosen before it learns what the other chose: one guess an exchange, and a
server answers few.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2s
from hmac import compare_digest

from wh.engine.limits import RateLimit
from wh.trust.words import check_words
from wh.wire.fields import CLAIM_NONCE_LEN
from wh.wire.public_key import Key

EXCHANGES_BURST = 8
EXCHANGES_INTERVAL_S = 3600.0
"""Of an alias, whoever claims it. Each is a guess at 24 bits for who breaks it off: in a week 1 in 95,000."""

PENDING_MAX = 64
PENDING_S = 60.0

_COMMITMENT_LABEL = b"wirehub claim commitment"


@dataclass(frozen=True, slots=True)
class Claim:
    """What both ends must agree about. handshake_hash: of the session that the claimant committed in."""

    handshake_hash: bytes
    claimant: Key
    server: Key
    alias: Key

    def commitment(self, nonce: bytes) -> bytes:
        """To the claimant's nonce."""
        return blake2s(_COMMITMENT_LABEL + self._bytes() + nonce).digest()

    def words(self, claimant_nonce: bytes, server_nonce: bytes) -> tuple[str, ...]:
        return check_words(self._bytes(), claimant_nonce, server_nonce)

    def _bytes(self) -> bytes:
        return self.handshake_hash + self.claimant + self.server + self.alias


class Offer:
    """The claimant's side of one exchange. It takes one nonce of the server for it, whatever comes later."""

    def __init__(self, claim: Claim, nonce: bytes) -> None:
        self._claim = claim
        self.nonce = nonce
        self.commitment = claim.commitment(nonce)
        self._server_nonce: bytes | None = None

    def answered(self, server_nonce: bytes) -> None:
        """From now on our nonce may be shown."""
        if self._server_nonce is None:
            self._server_nonce = server_nonce

    @property
    def may_reveal(self) -> bool:
        return self._server_nonce is not None

    def words(self) -> tuple[str, ...]:
        """Empty where nothing was revealed: no server could show the same."""
        return () if self._server_nonce is None else self._claim.words(self.nonce, self._server_nonce)


@dataclass(frozen=True, slots=True)
class _Pending:
    commitment: bytes
    nonce: bytes
    hashes: tuple[bytes, ...]
    until: float


class Exchanges:
    """The server's side. randbytes(n): unpredictable."""

    def __init__(self, server: Key, randbytes: Callable[[int], bytes]) -> None:
        self._server = server
        self._randbytes = randbytes
        self._pending: OrderedDict[tuple[Key, Key], _Pending] = OrderedDict()  # by claimant and alias
        self._limit = RateLimit(EXCHANGES_BURST, EXCHANGES_INTERVAL_S)

    def answer(
        self, claimant: Key, alias: Key, commitment: bytes, hashes: tuple[bytes, ...], now: float
    ) -> bytes | None:
        """Our nonce for a claim that was proved; the same for the same commitment. hashes: of our session
        with the claimant. None where the alias has had too many exchanges."""
        held = self._pending.get((claimant, alias))
        if held is not None and held.commitment == commitment and now < held.until:
            return held.nonce
        if not self._limit.allow(alias, now):
            return None
        self._pending.pop((claimant, alias), None)
        if len(self._pending) >= PENDING_MAX:
            self._pending.popitem(last=False)
        nonce = self._randbytes(CLAIM_NONCE_LEN)
        self._pending[claimant, alias] = _Pending(commitment, nonce, hashes, now + PENDING_S)
        return nonce

    def reveal(self, claimant: Key, alias: Key, nonce: bytes, now: float) -> tuple[str, ...] | None:
        """The words of an exchange that is complete; None where there is none, or the nonce is another one
        than was committed to. Asked again it says the same."""
        held = self._pending.get((claimant, alias))
        if held is None or now >= held.until:
            return None
        for handshake_hash in held.hashes:
            claim = Claim(handshake_hash, claimant, self._server, alias)
            if compare_digest(claim.commitment(nonce), held.commitment):
                return claim.words(nonce, held.nonce)
        del self._pending[claimant, alias]
        return None
