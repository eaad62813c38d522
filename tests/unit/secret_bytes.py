"""What the core never gives away: a secret key as bytes, for those who compute the same by other means."""

import base64
import os

from whcore.keys import SecretKey


def secret_bytes(key: SecretKey) -> bytes:
    """32 bytes."""
    read_end, write_end = os.pipe()
    try:
        key.write_fd(write_end)
        return base64.b64decode(os.read(read_end, 100))
    finally:
        os.close(read_end)
        os.close(write_end)
