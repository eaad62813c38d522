_Buffer = bytes | bytearray | memoryview

def seal(key: _Buffer, counter: int, plaintext: _Buffer, ad: _Buffer = b"") -> bytes:
    """ChaCha20-Poly1305 (RFC 8439) with a 32-byte key: len(plaintext) + 16 bytes. For tests and small uses."""

def open(key: _Buffer, counter: int, sealed: _Buffer, ad: _Buffer = b"") -> bytes:
    """The plaintext of seal(). Raises BadPacket. For tests and small uses."""

def xseal(key: _Buffer, nonce: _Buffer, plaintext: _Buffer, ad: _Buffer = b"") -> bytes:
    """XChaCha20-Poly1305 with a 32-byte key and a 24-byte nonce. For tests and small uses."""

def xopen(key: _Buffer, nonce: _Buffer, sealed: _Buffer, ad: _Buffer = b"") -> bytes:
    """The plaintext of xseal(). Raises BadPacket. For tests and small uses."""
