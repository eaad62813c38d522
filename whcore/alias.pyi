from whcore.keys import SecretKey

def derive_alias(seed: bytes, namespace: bytes, workbit: int) -> SecretKey:
    """The alias of a 16-byte seed: HKDF (RFC 5869, BLAKE2s, no salt) with info "wirehub alias key" ||
    counter4, with the first counter whose public key has `workbit` (0 to 24) workbits. Raises ValueError."""

def prove(secret: SecretKey, public: bytes, transcript: bytes) -> bytes:
    """32 bytes: HMAC-BLAKE2s(HKDF(DH(secret, public), "wirehub alias"), transcript). The owners of the two
    keys can compute it, nobody else. Raises InvalidKey, ValueError."""

def check(secret: SecretKey, public: bytes, transcript: bytes, proof: bytes) -> bool:
    """Whether the proof is what prove() gives, in constant time. Malformed input is False."""
