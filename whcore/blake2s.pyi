def digest(data: bytes, *, key: bytes = b"", size: int = 32) -> bytes:
    """BLAKE2s of data: size (1..32) bytes, keyed with 0..32 bytes. Raises ValueError for other lengths."""

def hmac(key: bytes, data: bytes) -> bytes:
    """HMAC-BLAKE2s-256 (RFC 2104, 64-byte block) of data, 32 bytes; key of any length."""

def kdf_outputs(chaining_key: bytes, data: bytes, n: int) -> tuple[bytes, ...]:
    """KDF_n (whitepaper 5.4): n (1..3) outputs of 32 bytes. chaining_key: 32 bytes. Raises ValueError."""
