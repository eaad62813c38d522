"""The XOR metric on 256-bit node ids, and the constants of Kademlia (docs/protocol.md section 5).

A node's id is its public key, read as a big-endian number.
"""

from __future__ import annotations

from collections.abc import Callable

from wh.wire.public_key import KEY_LEN, Key

K = 20
"""Contacts in a bucket, servers that hold a record."""

ALPHA = 3
"""Requests that one path of a lookup keeps in flight."""

ID_BITS = 256
ID_SPACE = 1 << ID_BITS

RandomBytes = Callable[[int], bytes]


def distance(a: Key, b: Key) -> int:
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def bucket_index(own: Key, key: Key) -> int:
    """1 + the length of the common prefix in bits: 1 is the far half of all keys, 257 only our own key."""
    return ID_BITS + 1 - distance(own, key).bit_length()


def random_key_in_bucket(own: Key, index: int, random_bytes: RandomBytes) -> Key:
    """A key that is uniform among those that belong into a bucket, index 1 to 256."""
    lower_bits = ID_BITS - index
    first_difference = 1 << lower_bits
    offset = first_difference | int.from_bytes(random_bytes(KEY_LEN), "big") & (first_difference - 1)
    return (int.from_bytes(own, "big") ^ offset).to_bytes(KEY_LEN, "big")
