def seal(key: bytes, counter: int, plaintext: bytes, ad: bytes = b"") -> bytes:
    """ChaCha20-Poly1305 (RFC 8439) with a 32-byte key: 16 bytes more than plaintext. For tests."""

def open(key: bytes, counter: int, sealed: bytes, ad: bytes = b"") -> bytes:
    """The plaintext of seal(). Raises BadPacket. For tests and small uses."""

def xseal(key: bytes, nonce: bytes, plaintext: bytes, ad: bytes = b"") -> bytes:
    """XChaCha20-Poly1305 with a 32-byte key and a 24-byte nonce. For tests and small uses."""

def xopen(key: bytes, nonce: bytes, sealed: bytes, ad: bytes = b"") -> bytes:
    """The plaintext of xseal(). Raises BadPacket. For tests and small uses."""
