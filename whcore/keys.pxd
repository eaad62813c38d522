"""Secret keys that never become Python bytes, and what can be computed from public ones."""

cimport cython
from libc.stdint cimport uint8_t

@cython.final
cdef class SecretKey:
    cdef uint8_t* key           # 32 bytes of sodium_malloc memory, NULL once closed
    cdef readonly bytes public_key

    cdef int check_open(self) except -1

# A key object of 32 secret bytes in the caller's locked memory. Raises InvalidKey for zeros, MemoryError.
cdef SecretKey secret_key_of(const uint8_t* raw)
# WH_OK, or WH_E_KEY where u >= p (bit 255 included) or the point has low order.
cdef int check_public_key_bytes(const uint8_t* u) noexcept nogil
# X25519 with the result checked: WH_OK or WH_E_KEY (all zeros). out: 32 bytes.
cdef int x25519(uint8_t* out, const uint8_t* secret, const uint8_t* public) noexcept nogil
# Leading zero bits of BLAKE2b-256(key || namespace), 0..256.
cdef int workbit_of(const uint8_t* public, const uint8_t* namespace, size_t n) noexcept nogil
