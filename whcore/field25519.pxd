"""Arithmetic modulo 2^255 - 19 on public values; the header says what each function takes and leaves."""

from libc.stdint cimport uint8_t, uint64_t

cdef extern from "field25519.h" nogil:
    ctypedef struct fe25519:
        pass

    void fe_from_bytes(fe25519* out, const uint8_t* data)
    void fe_from_int(fe25519* out, uint64_t small)
    void fe_to_bytes(uint8_t* out, const fe25519* a)
    void fe_add(fe25519* out, const fe25519* a, const fe25519* b)
    void fe_sub(fe25519* out, const fe25519* a, const fe25519* b)
    void fe_mul(fe25519* out, const fe25519* a, const fe25519* b)
    void fe_pow(fe25519* out, const fe25519* base, const uint8_t* exponent)
    void fe_invert(fe25519* out, const fe25519* a)
