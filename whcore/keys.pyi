from collections.abc import Callable
from typing import final

@final
class SecretKey:
    """A Curve25519 secret key in sodium_malloc memory. repr is redacted; it cannot be pickled, copied or read
    out except through write_fd(), which writes exactly what was read: it may also hold a preshared key."""

    public_key: bytes

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Raises TypeError: the static methods make keys."""
    @staticmethod
    def generate() -> SecretKey: ...
    @staticmethod
    def search(
        workbit: int,
        namespace: bytes,
        *,
        threads: int = 0,
        progress: Callable[[int, float], bool | None] | None = None,
    ) -> SecretKey:
        """A key with at least `workbit` workbits in `namespace`. threads 0: all cores. progress(keys tried,
        seconds) is called about four times a second; a true answer cancels (raises InterruptedError); so does
        a signal handler that raises."""
    @staticmethod
    def read_fd(fd: int) -> SecretKey:
        """Read one key as base64 text (43 or 44 characters, either alphabet, white space around it) up to end
        of file. Raises InvalidKey. The fd is not closed."""
    @staticmethod
    def from_text(text: str) -> SecretKey:
        """For secrets that are text already (invitations, network secrets). Raises InvalidKey."""
    def write_fd(self, fd: int, *, newline: bool = True) -> None:
        """Write the key as 44 characters of standard base64. Raises OSError."""
    def derive_public(self) -> bytes: ...
    def sign(self, message: bytes) -> bytes:
        """XEdDSA signature, 64 bytes (docs/protocol.md section 4)."""
    def close(self) -> None: ...

def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Check an XEdDSA signature. Malformed input is False, never an exception."""

def encode_key(key: bytes) -> str:
    """43 characters of URL-safe base64 without padding, the form WireHub prints."""

def encode_key_wg(key: bytes) -> str:
    """44 characters of standard base64, the form WireGuard prints."""

def decode_key(text: str) -> bytes:
    """32 bytes from either form. Raises InvalidKey, which says what is wrong with the text."""

def check_public_key(key: bytes) -> None:
    """Raises InvalidKey for a wrong length, u >= p, or a point of low order."""

def workbit(key: bytes, namespace: bytes) -> int:
    """Leading zero bits of BLAKE2b-256(key || namespace), 0 to 256."""

def bucket_index(a: bytes, b: bytes) -> int:
    """1 + the length of the common prefix in bits of two 32-byte keys, at most 256 (the original's `bid`)."""

def orchid(key: bytes, namespace: bytes) -> bytes:
    """16 bytes: ORCHIDv2 (RFC 7343) of the key in its namespace, in 2001:20::/28."""

def orchid_v1(key: bytes, namespace: bytes) -> bytes:
    """16 bytes: the address that the 2018 WireHub computed, in 2001:10::/28 as it laid it out."""
