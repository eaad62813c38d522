"""XEdDSA: Ed25519 signatures with X25519 keys (Signal's XEdDSA specification; docs/protocol.md section 4)."""

from libc.stdint cimport uint8_t

# secret: 32 bytes, clamped or not. noise: 64 fresh random bytes. signature: 64 bytes out.
cdef void xeddsa_sign(uint8_t* signature, const uint8_t* secret, const uint8_t* message, size_t n,
                      const uint8_t* noise) noexcept nogil
# public_key: 32 bytes that passed check_public_key_bytes. WH_OK or WH_E_AUTH.
cdef int xeddsa_verify(const uint8_t* public_key, const uint8_t* message, size_t n,
                       const uint8_t* signature) noexcept nogil
