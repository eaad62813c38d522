"""BLAKE2s (RFC 7693), HMAC-BLAKE2s (RFC 2104) and WireGuard's KDF (whitepaper 5.4). Not in libsodium.

The Python functions are for tests and small uses; handshakes call the C functions of blake2s.pxd.
"""

from libc.string cimport memcpy, memset

from whcore.sodium cimport sodium_init, sodium_memzero

if sodium_init() < 0:
    raise ImportError("libsodium did not initialise")

cdef extern from "blake2s_compress.h" nogil:
    const uint32_t* wh_blake2s_iv
    void wh_store32_le(uint8_t* p, uint32_t word)
    void wh_blake2s_compress(uint32_t* h, const uint8_t* block, uint64_t t, uint32_t last)

cdef enum:
    BLOCK_LEN = 64
    HASH_LEN = 32
    HMAC_INNER_PAD = 0x36       # RFC 2104, 2
    HMAC_OUTER_PAD = 0x5C


cdef void blake2s_init(blake2s_state* state, size_t out_len, const uint8_t* key,
                       size_t key_len) noexcept nogil:
    """Start a hash of out_len bytes (1..32), keyed when key_len (0..32) is not 0."""
    cdef size_t i
    for i in range(8):
        state.h[i] = wh_blake2s_iv[i]
    # Parameter block (2.5): digest length, key length, fanout 1, depth 1.
    state.h[0] ^= 0x01010000 ^ (<uint32_t>key_len << 8) ^ <uint32_t>out_len
    state.t = 0
    state.buf_len = 0
    state.out_len = out_len
    if key_len:
        memset(state.buf, 0, BLOCK_LEN)
        memcpy(state.buf, key, key_len)
        state.buf_len = BLOCK_LEN


cdef void blake2s_update(blake2s_state* state, const uint8_t* data, size_t n) noexcept nogil:
    """Hash n more bytes. A full buffer is kept until more comes: the last block is compressed differently."""
    cdef size_t room
    if n == 0:
        return
    room = BLOCK_LEN - state.buf_len
    if n > room:
        memcpy(state.buf + state.buf_len, data, room)
        state.t += BLOCK_LEN
        wh_blake2s_compress(state.h, state.buf, state.t, 0)
        data += room
        n -= room
        state.buf_len = 0
        while n > BLOCK_LEN:
            state.t += BLOCK_LEN
            wh_blake2s_compress(state.h, data, state.t, 0)
            data += BLOCK_LEN
            n -= BLOCK_LEN
    memcpy(state.buf + state.buf_len, data, n)
    state.buf_len += n


cdef void blake2s_final(blake2s_state* state, uint8_t* out) noexcept nogil:
    """Write out_len bytes and zero the state."""
    cdef uint8_t full[HASH_LEN]
    cdef size_t i
    memset(state.buf + state.buf_len, 0, BLOCK_LEN - state.buf_len)
    state.t += state.buf_len
    wh_blake2s_compress(state.h, state.buf, state.t, 0xFFFFFFFF)
    for i in range(8):
        wh_store32_le(full + 4 * i, state.h[i])
    memcpy(out, full, state.out_len)
    sodium_memzero(full, HASH_LEN)
    sodium_memzero(state, sizeof(blake2s_state))


cdef void blake2s(uint8_t* out, size_t out_len, const uint8_t* key, size_t key_len,
                  const uint8_t* data, size_t n) noexcept nogil:
    """One-shot BLAKE2s; out may alias data."""
    cdef blake2s_state state
    blake2s_init(&state, out_len, key, key_len)
    blake2s_update(&state, data, n)
    blake2s_final(&state, out)


cdef void blake2s_hash2(uint8_t* out, const uint8_t* a, size_t a_len, const uint8_t* b,
                        size_t b_len) noexcept nogil:
    """HASH(a || b), 32 bytes; out may alias a or b."""
    cdef blake2s_state state
    blake2s_init(&state, HASH_LEN, NULL, 0)
    blake2s_update(&state, a, a_len)
    blake2s_update(&state, b, b_len)
    blake2s_final(&state, out)


cdef struct hmac_state:             # a keyed HMAC before any data: two BLAKE2s states, each one block in
    blake2s_state inner
    blake2s_state outer


cdef void hmac_init(hmac_state* state, const uint8_t* key,
                       size_t key_len) noexcept nogil:
    cdef uint8_t block[BLOCK_LEN]
    cdef int i
    memset(block, 0, BLOCK_LEN)
    if key_len > BLOCK_LEN:
        blake2s(block, HASH_LEN, NULL, 0, key, key_len)
    elif key_len:
        memcpy(block, key, key_len)
    for i in range(BLOCK_LEN):
        block[i] ^= HMAC_INNER_PAD
    blake2s_init(&state.inner, HASH_LEN, NULL, 0)
    blake2s_update(&state.inner, block, BLOCK_LEN)
    for i in range(BLOCK_LEN):
        block[i] ^= HMAC_INNER_PAD ^ HMAC_OUTER_PAD
    blake2s_init(&state.outer, HASH_LEN, NULL, 0)
    blake2s_update(&state.outer, block, BLOCK_LEN)
    sodium_memzero(block, BLOCK_LEN)


cdef void hmac_finish(hmac_state* state, uint8_t* out, const uint8_t* data, size_t n) noexcept nogil:
    """HMAC of n bytes of data into out (32 bytes, may alias data); zeroes the state."""
    cdef uint8_t inner[HASH_LEN]
    blake2s_update(&state.inner, data, n)
    blake2s_final(&state.inner, inner)
    blake2s_update(&state.outer, inner, HASH_LEN)
    blake2s_final(&state.outer, out)
    sodium_memzero(inner, HASH_LEN)


cdef void hmac_blake2s(uint8_t* out, const uint8_t* key, size_t key_len, const uint8_t* data,
                       size_t n) noexcept nogil:
    """HMAC-BLAKE2s-256 with a 64-byte block; out may alias key or data."""
    cdef hmac_state state
    hmac_init(&state, key, key_len)
    hmac_finish(&state, out, data, n)


cdef void kdf_expand(uint8_t* block, size_t previous_len, uint8_t number, uint8_t* out,
                     const uint8_t* secret) noexcept nogil:
    """One output of HKDF: block holds the previous output (or nothing), and gets the new one."""
    block[previous_len] = number
    hmac_blake2s(block, secret, HASH_LEN, block, previous_len + 1)
    if out != NULL:
        memcpy(out, block, HASH_LEN)


cdef void kdf(uint8_t* out1, uint8_t* out2, uint8_t* out3, const uint8_t* chaining_key,
              const uint8_t* data, size_t n) noexcept nogil:
    """KDF_n of the whitepaper (HKDF, RFC 5869, without info): NULL outputs are skipped, and outputs after the
    last wanted one are not computed."""
    cdef uint8_t secret[HASH_LEN]
    cdef uint8_t block[HASH_LEN + 1]
    hmac_blake2s(secret, chaining_key, HASH_LEN, data, n)
    kdf_expand(block, 0, 1, out1, secret)
    if out2 != NULL or out3 != NULL:
        kdf_expand(block, HASH_LEN, 2, out2, secret)
    if out3 != NULL:
        kdf_expand(block, HASH_LEN, 3, out3, secret)
    sodium_memzero(secret, HASH_LEN)
    sodium_memzero(block, HASH_LEN + 1)


def digest(bytes data not None, *, bytes key not None=b"", size_t size=HASH_LEN):
    """BLAKE2s of data: size (1..32) bytes, keyed with 0..32 bytes. Raises ValueError for other lengths."""
    cdef uint8_t out[HASH_LEN]
    if not 1 <= size <= HASH_LEN:
        raise ValueError("size is 1 to 32 bytes")
    if len(key) > HASH_LEN:
        raise ValueError("key is at most 32 bytes")
    blake2s(out, size, key, len(key), data, len(data))
    return (<const char*>out)[:size]


def hmac(bytes key not None, bytes data not None):
    """HMAC-BLAKE2s-256 (RFC 2104, 64-byte block) of data, 32 bytes; key of any length."""
    cdef uint8_t out[HASH_LEN]
    hmac_blake2s(out, key, len(key), data, len(data))
    return (<const char*>out)[:HASH_LEN]


def kdf_outputs(bytes chaining_key not None, bytes data not None, int n):
    """KDF_n (whitepaper 5.4): n (1..3) outputs of 32 bytes. chaining_key: 32 bytes. Raises ValueError."""
    cdef uint8_t out[3 * HASH_LEN]
    if len(chaining_key) != HASH_LEN:
        raise ValueError("chaining_key is 32 bytes")
    if not 1 <= n <= 3:
        raise ValueError("n is 1 to 3")
    kdf(out, out + HASH_LEN if n >= 2 else NULL, out + 2 * HASH_LEN if n == 3 else NULL,
        chaining_key, data, len(data))
    outputs = tuple([(<const char*>out)[i * HASH_LEN:(i + 1) * HASH_LEN] for i in range(n)])
    sodium_memzero(out, sizeof(out))
    return outputs
