"""XEdDSA: Ed25519 signatures with X25519 keys (Signal's XEdDSA specification; docs/protocol.md section 4)."""

from libc.stdint cimport uint8_t

# What blinded keys (whcore.blinding) are made of too; see xeddsa.pyx. a, A, r, h: 32 bytes.
cdef void calculate_key_pair(uint8_t* a, uint8_t* A, const uint8_t* secret) noexcept nogil
cdef void hash_nonce(uint8_t* r, const uint8_t* a, const uint8_t* message, size_t n,
                     const uint8_t* noise) noexcept nogil
cdef void hash_challenge(uint8_t* h, const uint8_t* R, const uint8_t* A, const uint8_t* message,
                         size_t n) noexcept nogil
cdef void edwards_of(uint8_t* A, const uint8_t* u_bytes) noexcept nogil

# secret: 32 bytes, clamped or not. noise: 64 fresh random bytes. signature: 64 bytes out.
cdef void xeddsa_sign(uint8_t* signature, const uint8_t* secret, const uint8_t* message, size_t n,
                      const uint8_t* noise) noexcept nogil
# public_key: 32 bytes that passed check_public_key_bytes. WH_OK or WH_E_AUTH.
cdef int xeddsa_verify(const uint8_t* public_key, const uint8_t* message, size_t n,
                       const uint8_t* signature) noexcept nogil
