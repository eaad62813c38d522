"""Bits of keys and hashes, counted from the first byte's most significant bit."""

from libc.stdint cimport uint8_t


cdef inline int leading_zero_bits(const uint8_t* data, int n) noexcept nogil:
    """How many zero bits n bytes begin with, 0..8n."""
    cdef int i = 0, bits
    cdef uint8_t byte
    while i < n and data[i] == 0:
        i += 1
    bits = 8 * i
    if i < n:
        byte = data[i]
        while not byte & 0x80:
            byte <<= 1
            bits += 1
    return bits
