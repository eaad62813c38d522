"""Overlay IPv6 addresses computed from keys: ORCHIDv2 (RFC 7343), and what the 2018 WireHub computed.

whcore.keys exports both functions.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from whcore.sodium cimport (
    crypto_generichash_final,
    crypto_generichash_init,
    crypto_generichash_state,
    crypto_generichash_update,
    crypto_hash_sha256_final,
    crypto_hash_sha256_init,
    crypto_hash_sha256_state,
    crypto_hash_sha256_update,
    sodium_init,
)

from whcore.errors import InvalidKey

if sodium_init() < 0:
    raise ImportError("libsodium did not initialise")

cdef enum:
    KEY_LEN = 32
    HASH_LEN = 32               # SHA-256, BLAKE2b-256
    ADDRESS_LEN = 16
    NAMESPACE_MAX = 255         # its length is hashed as one byte
    PREFIX_LEN = 4
    CONTEXT_ID_LEN = 16
    ENCODED_OFFSET = 10         # Encode_96: the middle 96 of the hash's 256 bits
    ENCODED_LEN = 12

# 2001:20::/28, then 4 bits of OGA id: 1 is SHA-256 (RFC 7343, 2; RFC 7401, 5.2.10).
cdef const uint8_t* PREFIX_AND_OGA_ID = <const uint8_t*>b"\x20\x01\x00\x21"
# WireHub's own, drawn at random once (RFC 7343, 2).
cdef const uint8_t* CONTEXT_ID = <const uint8_t*>(
    b"\x70\x0b\xb2\x62\x8b\x5b\x2b\x37\x58\x59\x30\xd5\x14\x65\x7a\xb2"
)


cdef int check_key(bytes key) except -1:
    if len(key) != KEY_LEN:
        raise InvalidKey(f"a key is {KEY_LEN} bytes, not {len(key)}")
    return 0


def orchid(bytes key not None, bytes namespace not None):
    """16 bytes: ORCHIDv2 (RFC 7343) of the key in its namespace, in 2001:20::/28.

    prefix 28 bits || OGA id 4 bits || middle 96 bits of SHA-256(context id 16 bytes || len1(namespace) ||
    namespace || key32). Raises InvalidKey for a wrong length, ValueError for a namespace over 255 bytes.
    """
    cdef crypto_hash_sha256_state state
    cdef uint8_t digest[HASH_LEN]
    cdef uint8_t address[ADDRESS_LEN]
    cdef uint8_t namespace_len
    check_key(key)
    if len(namespace) > NAMESPACE_MAX:
        raise ValueError("a namespace is at most 255 bytes")
    namespace_len = <uint8_t>len(namespace)
    crypto_hash_sha256_init(&state)
    crypto_hash_sha256_update(&state, CONTEXT_ID, CONTEXT_ID_LEN)
    crypto_hash_sha256_update(&state, &namespace_len, 1)
    crypto_hash_sha256_update(&state, namespace, namespace_len)
    crypto_hash_sha256_update(&state, key, KEY_LEN)
    crypto_hash_sha256_final(&state, digest)
    memcpy(address, PREFIX_AND_OGA_ID, PREFIX_LEN)
    memcpy(address + PREFIX_LEN, digest + ENCODED_OFFSET, ENCODED_LEN)
    return (<const char*>address)[:ADDRESS_LEN]


def orchid_v1(bytes key not None, bytes namespace not None):
    """16 bytes: the address that the 2018 WireHub computed, in 2001:10::/28 as it laid it out.

    The first 16 bytes of BLAKE2b-256(namespace || key) with 20 01 1x over their start: not the bits of RFC
    4843's prefix, but nodes of that time hold these addresses. Raises InvalidKey for a wrong length.
    """
    cdef crypto_generichash_state state
    cdef uint8_t digest[HASH_LEN]
    check_key(key)
    crypto_generichash_init(&state, NULL, 0, HASH_LEN)
    crypto_generichash_update(&state, namespace, len(namespace))
    crypto_generichash_update(&state, key, KEY_LEN)
    crypto_generichash_final(&state, digest, HASH_LEN)
    digest[0] = 0x20
    digest[1] = 0x01
    digest[2] = (digest[2] & 0x0F) | 0x10
    return (<const char*>digest)[:ADDRESS_LEN]
