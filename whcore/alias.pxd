"""HKDF (RFC 5869) with HMAC-BLAKE2s, without salt, for 32 bytes of output."""

from libc.stdint cimport uint8_t

cdef enum:
    INFO_MAX = 96

cdef struct hkdf_work:                  # everything here is secret: wipe it
    uint8_t extracted[32]
    uint8_t block[INFO_MAX + 1]
    uint8_t output[32]

cdef void hkdf_extract(uint8_t* extracted, const uint8_t* material, size_t n) noexcept nogil
# The first 32 bytes of HKDF-Expand into work.output; n <= INFO_MAX.
cdef void hkdf_expand(hkdf_work* work, const uint8_t* info, size_t n) noexcept nogil
