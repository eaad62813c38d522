from collections.abc import Sequence

def seal(key: bytes, counter: int, plaintext: bytes, ad: bytes = b"") -> bytes:
    """ChaCha20-Poly1305 (RFC 8439) with a 32-byte key: 16 bytes more than plaintext. For tests."""

def open(key: bytes, counter: int, sealed: bytes, ad: bytes = b"") -> bytes:
    """The plaintext of seal(). Raises BadPacket. For tests and small uses."""

def xseal(key: bytes, nonce: bytes, plaintext: bytes, ad: bytes = b"") -> bytes:
    """XChaCha20-Poly1305 with a 32-byte key and a 24-byte nonce. For tests and small uses."""

def xopen(key: bytes, nonce: bytes, sealed: bytes, ad: bytes = b"") -> bytes:
    """The plaintext of xseal(). Raises BadPacket. For tests and small uses."""

def engine() -> str:
    """The name of the one that packets are sealed and opened by."""

def engines() -> tuple[str, ...]:
    """Names of those that work on this machine."""

def versions() -> dict[str, str]:
    """Of the libraries of those that work here, by name."""

def obstacle() -> str:
    """Why IPsec-MB is not used: "not built", "no library", "other version" than its header's,
    "processor" without AVX2, "wrong results", "unwanted" by WH_AEAD; empty: it is used."""

def run_batch(name: str, sealing: bool, messages: Sequence[tuple[bytes, int, bytes]]) -> list[bytes | None]:
    """Seal or open (32-byte key, counter, text) messages at once and in place, by the engine of that name;
    without associated data. None for what does not open. For tests."""
