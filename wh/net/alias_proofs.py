"""Proofs of claims (docs/protocol.md section 9), for the sessions of one node.

A proof is over handshake hash || claimant || server || alias || commitment: it counts in one session, from
one key, at one node, for one exchange."""

from __future__ import annotations

from wh.engine.events import Key
from whcore import alias
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey


class AliasProofs:
    """secret_key: our own, which is what others' claims are checked with."""

    def __init__(self, secret_key: SecretKey, sessions: ControlSessions) -> None:
        self._secret_key = secret_key
        self._sessions = sessions
        self._held: dict[Key, SecretKey] = {}

    def hold(self, secret: SecretKey) -> None:
        """From now on prove() works for the alias."""
        self._held[secret.public_key] = secret

    def drop(self, secret: SecretKey) -> None:
        """Close the secret. Another object of the same alias that was held since stays."""
        if self._held.get(secret.public_key) is secret:
            del self._held[secret.public_key]
        secret.close()

    def prove(self, server: Key, alias_key: Key, commitment: bytes) -> bytes | None:
        """For an AUTH to a server; None without a session, or without the alias's secret."""
        secret = self._held.get(alias_key)
        hashes = self._sessions.handshake_hashes(server)
        if secret is None or not hashes:
            return None
        rest = self._secret_key.public_key + server + alias_key + commitment
        return alias.prove(secret, server, hashes[0] + rest)

    def check(self, claimant: Key, alias_key: Key, commitment: bytes, proof: bytes) -> bool:
        """Of an AUTH that arrived in our session with the claimant. The keys may have changed since it was
        sent, so those before count too."""
        rest = claimant + self._secret_key.public_key + alias_key + commitment
        hashes = self._sessions.handshake_hashes(claimant)
        return any(alias.check(self._secret_key, alias_key, each + rest, proof) for each in hashes)
