from whcore.keys import SecretKey

def blind(public_key: bytes, blinding: bytes) -> bytes:
    """The blinded key, 32 bytes: an Ed25519 public key. public_key: an X25519 key; blinding: 64 bytes, public
    to whoever knows that key. Raises InvalidKey where the key is none, ValueError for another length."""

def sign(secret_key: SecretKey, blinding: bytes, message: bytes) -> bytes:
    """Ed25519 signature under the secret key's blinded key, 64 bytes. Raises ValueError, SystemFailure."""

def verify(blinded: bytes, message: bytes, signature: bytes) -> bool:
    """Check a signature under a blinded key. Malformed input is False, never an exception."""

def seal(key: bytes, nonce: bytes, plaintext: bytes) -> bytes:
    """XChaCha20-Poly1305, without associated data: 16 bytes longer. key: 32 bytes, nonce: 24, fresh ones."""

def open_sealed(key: bytes, nonce: bytes, sealed: bytes) -> bytes | None:
    """None where that key and nonce did not seal it."""
