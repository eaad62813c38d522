"""Layouts of control datagrams (docs/protocol.md section 2) and the few operations on them, inlined."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

# FF 02 tt 00, then little-endian fields. n and m are plaintext lengths: len2 || payload || zeros.
cdef enum:
    HEADER_LEN = 4
    TYPE_INIT = 1           # header sender_index4 ephemeral32 sealed_static48 sealed(12 + n) mac1 16 mac2 16
    TYPE_RESP = 2           # header sender_index4 receiver_index4 ephemeral32 sealed(m) mac1 16 mac2 16
    TYPE_COOKIE = 3         # header receiver_index4 nonce24 sealed32
    TYPE_DATA = 4           # header receiver_index4 counter8 sealed(n)

    INIT_SENDER_AT = 4
    INIT_NOISE_AT = 8
    INIT_PAYLOAD_AT = 88    # after ephemeral and sealed static
    INIT_OVERHEAD = 148

    RESP_SENDER_AT = 4
    RESP_RECEIVER_AT = 8
    RESP_NOISE_AT = 12
    RESP_OVERHEAD = 92

    COOKIE_RECEIVER_AT = 4
    COOKIE_NONCE_AT = 8
    COOKIE_SEALED_AT = 32
    COOKIE_LEN = 64

    DATA_RECEIVER_AT = 4
    DATA_COUNTER_AT = 8
    DATA_SEALED_AT = 16
    DATA_OVERHEAD = 32

    MACS_LEN = 32
    TIMESTAMP_LEN = 12
    LENGTH_LEN = 2
    PADDING = 16
    DATA_PLAINTEXT_MIN = 32
    DATAGRAM_MAX = 1200     # before CHANNEL
    INIT_PLAINTEXT_MAX = DATAGRAM_MAX - INIT_OVERHEAD
    PROBE_DATAGRAM_MAX = 1468   # of a PROBE that tries a path's MTU: 1,496 bytes with IPv4 and UDP
    DATA_PLAINTEXT_MAX = DATAGRAM_MAX - DATA_OVERHEAD
    DATA_PADDED_MAX = PROBE_DATAGRAM_MAX - DATA_OVERHEAD


cdef inline void store32(uint8_t* out, uint32_t value) noexcept nogil:
    cdef int i
    for i in range(4):
        out[i] = <uint8_t>(value >> (8 * i))


cdef inline uint32_t load32(const uint8_t* data) noexcept nogil:
    return data[0] | <uint32_t>data[1] << 8 | <uint32_t>data[2] << 16 | <uint32_t>data[3] << 24


cdef inline void store64(uint8_t* out, uint64_t value) noexcept nogil:
    store32(out, <uint32_t>value)
    store32(out + 4, <uint32_t>(value >> 32))


cdef inline uint64_t load64(const uint8_t* data) noexcept nogil:
    return load32(data) | <uint64_t>load32(data + 4) << 32


cdef inline void write_header(uint8_t* out, uint8_t type) noexcept nogil:
    out[0] = 0xFF
    out[1] = 2
    out[2] = type
    out[3] = 0


# The type of n bytes, or 0 where they do not start as a control datagram does.
cdef inline int header_type(const uint8_t* data, size_t n) noexcept nogil:
    if n < HEADER_LEN or data[0] != 0xFF or data[1] != 2 or data[3] != 0:
        return 0
    return data[2]


# The plaintext length for a payload: a multiple of 16, at least least.
cdef inline size_t padded_len(size_t payload_len, size_t least) noexcept nogil:
    return (max(LENGTH_LEN + payload_len, least) + PADDING - 1) // PADDING * PADDING


# Fill n bytes of plaintext; n >= LENGTH_LEN + payload_len.
cdef inline void pad(uint8_t* out, size_t n, const uint8_t* payload, size_t payload_len) noexcept nogil:
    out[0] = <uint8_t>payload_len
    out[1] = <uint8_t>(payload_len >> 8)
    memcpy(out + LENGTH_LEN, payload, payload_len)
    memset(out + LENGTH_LEN + payload_len, 0, n - LENGTH_LEN - payload_len)


# The payload in n bytes of plaintext, or None where its length does not fit.
cdef inline bytes unpad_untrusted(const uint8_t* plaintext, size_t n):
    cdef size_t payload_len
    if n < LENGTH_LEN:
        return None
    payload_len = plaintext[0] | <size_t>plaintext[1] << 8
    if payload_len > n - LENGTH_LEN:
        return None
    return PyBytes_FromStringAndSize(<const char*>plaintext + LENGTH_LEN, payload_len)
