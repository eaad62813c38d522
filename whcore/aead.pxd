"""ChaCha20-Poly1305 (RFC 8439) and XChaCha20-Poly1305, alone and in batches behind one call table."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef extern from "aead_job.h" nogil:
    struct aead_job:
        uint8_t* dst            # len + 16 bytes to seal, len bytes to open; may equal src
        const uint8_t* src      # len bytes to seal, len + 16 to open
        const uint8_t* key      # 32 bytes
        uint64_t counter        # the nonce is 4 zero bytes || counter, little-endian
        uint32_t len            # plaintext bytes
        int32_t result          # out: WH_OK or WH_E_AUTH; dst is zeroed on failure

# Seal or open a batch.
ctypedef void (*aead_run)(void* state, aead_job* jobs, size_t n, bint sealing) noexcept nogil

cdef struct aead_engine:
    const char* name
    void* (*make_state)() noexcept nogil            # NULL: it needs none
    void (*free_state)(void* state) noexcept nogil
    aead_run run

cdef struct aead_context:       # an engine as one thread uses it
    const aead_engine* engine
    void* state

# Choose this process's engine, once; call it before the first aead_context_init().
cdef int aead_choose_engine() except -1
cdef int aead_context_init(aead_context* context) noexcept nogil    # WH_OK or WH_E_MEMORY
cdef void aead_context_free(aead_context* context) noexcept nogil

# dst: n + 16 bytes. ad may be NULL with ad_len 0.
cdef void aead_seal(uint8_t* dst, const uint8_t* src, size_t n, const uint8_t* ad, size_t ad_len,
                    uint64_t counter, const uint8_t* key) noexcept nogil
# src: n bytes with the tag, n >= 16; dst: n - 16 bytes. Returns WH_OK, WH_E_LENGTH or WH_E_AUTH (dst zeroed).
cdef int aead_open(uint8_t* dst, const uint8_t* src, size_t n, const uint8_t* ad, size_t ad_len,
                   uint64_t counter, const uint8_t* key) noexcept nogil
# The same with a 24-byte nonce (cookie replies, whitepaper 5.4.7).
cdef void xaead_seal(uint8_t* dst, const uint8_t* src, size_t n, const uint8_t* ad, size_t ad_len,
                     const uint8_t* nonce, const uint8_t* key) noexcept nogil
cdef int xaead_open(uint8_t* dst, const uint8_t* src, size_t n, const uint8_t* ad, size_t ad_len,
                    const uint8_t* nonce, const uint8_t* key) noexcept nogil
