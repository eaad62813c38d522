"""Which 32 bytes can be a node's identity. For keys that a message only mentions; whcore.keys checks again
before it computes with one."""

from __future__ import annotations

Key = bytes
"""32 bytes, an X25519 public key: a node's identity."""

KEY_LEN = 32

_P = 2**255 - 19
_LOW_ORDER = frozenset(
    {
        0,
        1,
        _P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)
"""The u-coordinates below p of the points whose order divides 8, curve or twist (RFC 7748, 6.1)."""


def is_public_key(key: bytes) -> bool:
    """Whether key is canonical (u < p, little-endian) and not of low order (docs/protocol.md section 1)."""
    u = int.from_bytes(key, "little")
    return len(key) == KEY_LEN and u < _P and u not in _LOW_ORDER
