"""The Internet checksum (RFC 1071); see checksum.h for what each function does."""

from libc.stdint cimport uint8_t, uint16_t, uint64_t

cdef extern from "checksum.h" nogil:
    uint64_t wh_sum(const uint8_t* data, size_t n, uint64_t sum)
    uint64_t wh_sum_copy(uint8_t* out, const uint8_t* data, size_t n, uint64_t sum)
    uint16_t wh_sum_fold(uint64_t sum)
    uint16_t wh_sum_word(uint16_t value)
    uint16_t wh_load_word(const uint8_t* p)
    void wh_store_word(uint8_t* p, uint16_t word)
