"""BLAKE2s-256/128, HMAC-BLAKE2s and WireGuard's KDF (RFC 7693, RFC 2104, whitepaper 5.4)."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef struct blake2s_state:
    uint32_t h[8]
    uint64_t t
    uint8_t buf[64]
    size_t buf_len
    size_t out_len

# out_len: 1..32; key_len: 0..32.
cdef void blake2s_init(blake2s_state* state, size_t out_len, const uint8_t* key,
                       size_t key_len) noexcept nogil
cdef void blake2s_update(blake2s_state* state, const uint8_t* data, size_t n) noexcept nogil
cdef void blake2s_final(blake2s_state* state, uint8_t* out) noexcept nogil  # zeroes the state
cdef void blake2s(uint8_t* out, size_t out_len, const uint8_t* key, size_t key_len,
                  const uint8_t* data, size_t n) noexcept nogil
# HASH(a || b), 32 bytes; out may alias a.
cdef void blake2s_hash2(uint8_t* out, const uint8_t* a, size_t a_len, const uint8_t* b,
                        size_t b_len) noexcept nogil
# key_len: any (hashed when over 64); out: 32 bytes.
cdef void hmac_blake2s(uint8_t* out, const uint8_t* key, size_t key_len, const uint8_t* data,
                       size_t n) noexcept nogil
# KDF_n of the whitepaper: each output 32 bytes, NULL outputs are skipped; out1 may alias chaining_key.
cdef void kdf(uint8_t* out1, uint8_t* out2, uint8_t* out3, const uint8_t* chaining_key,
              const uint8_t* data, size_t n) noexcept nogil
