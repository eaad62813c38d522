from typing import Self, final

from whcore.keys import SecretKey

@final
class Suite:
    """A Noise protocol name and prologue, hashed once. psk_position: -1 (IK), 0 (IKpsk0) or 2 (IKpsk2); it
    must agree with the name. Raises ValueError for another position."""

    def __new__(cls, protocol_name: bytes, prologue: bytes, psk_position: int = -1) -> Self: ...

@final
class Transport:
    """The two keys of a finished handshake, each with a counter from 0: messages open in the order sealed."""

    def seal(self, plaintext: bytes) -> bytes:
        """The plaintext encrypted, then a tag of 16 bytes."""
    def open(self, sealed: bytes) -> bytes:
        """Raises BadPacket; the counter moves on success only."""

@final
class Initiator:
    """The initiator of one IK handshake: write(), then read(). A psk has 32 bytes; IKpsk0 must have one, for
    IKpsk2 none means zeros. ephemeral: a fresh random key unless given (test vectors)."""

    handshake_hash: bytes | None
    def __new__(
        cls,
        suite: Suite,
        secret_key: SecretKey,
        remote_static: bytes,
        *,
        psk: bytes | None = None,
        ephemeral: SecretKey | None = None,
    ) -> Self:
        """Raises InvalidKey for a bad remote key, ValueError for a bad psk."""
    def write(self, payload: bytes) -> bytes:
        """The first message: 96 bytes longer than the payload."""
    def read(self, message: bytes) -> tuple[bytes, Transport]:
        """The payload of the second message, and the keys. Raises BadPacket, or InvalidKey for a bad
        ephemeral key; another message may then be tried."""

@final
class Responder:
    """The responder of one IK handshake: read(), then write()."""

    handshake_hash: bytes | None
    remote_static: bytes | None
    def __new__(
        cls,
        suite: Suite,
        secret_key: SecretKey,
        *,
        psk: bytes | None = None,
        ephemeral: SecretKey | None = None,
    ) -> Self: ...
    def read(self, message: bytes) -> bytes:
        """The payload of the first message; remote_static is then proved. Raises BadPacket, or InvalidKey for
        a bad key in it."""
    def write(self, payload: bytes) -> tuple[bytes, Transport]:
        """The second message, 48 bytes longer than the payload, and the keys."""
