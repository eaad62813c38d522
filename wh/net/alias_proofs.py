"""Proofs of claims (docs/protocol.md section 9), for the sessions of one node.

A proof is over handshake hash || claimant || server || alias: it counts in one session, from one key, at one
node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wh.events import Key
from whcore import alias
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey


class AliasProofs:
    """secret_key: our own, which is what others' claims are checked with."""

    def __init__(self, secret_key: SecretKey, sessions: ControlSessions) -> None:
        self._secret_key = secret_key
        self._sessions = sessions
        self._held: dict[Key, SecretKey] = {}

    @contextmanager
    def holding(self, secret: SecretKey) -> Iterator[None]:
        """While this lasts, prove() works for the alias. The secret is closed at the end."""
        public = secret.public_key
        self._held[public] = secret
        try:
            yield
        finally:
            del self._held[public]
            secret.close()

    def prove(self, server: Key, alias_key: Key) -> bytes | None:
        """For an AUTH to a server; None without a session, or without the alias's secret."""
        secret = self._held.get(alias_key)
        hashes = self._sessions.handshake_hashes(server)
        if secret is None or not hashes:
            return None
        return alias.prove(secret, server, hashes[0] + self._secret_key.public_key + server + alias_key)

    def check(self, claimant: Key, alias_key: Key, proof: bytes) -> bool:
        """Of an AUTH that arrived in our session with the claimant. The keys may have changed since it was
        sent, so those before count too."""
        rest = claimant + self._secret_key.public_key + alias_key
        hashes = self._sessions.handshake_hashes(claimant)
        return any(alias.check(self._secret_key, alias_key, each + rest, proof) for each in hashes)
