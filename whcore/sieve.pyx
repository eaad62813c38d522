# cython: auto_pickle=False
"""Which datagrams are worth a place in a queue. The contracts are in sieve.pxd."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free

from whcore.control_wire cimport (
    COOKIE_LEN as CONTROL_COOKIE_LEN, COOKIE_RECEIVER_AT, DATA_OVERHEAD as CONTROL_DATA_OVERHEAD, DATA_PLAINTEXT_MIN,
    DATA_RECEIVER_AT, DATAGRAM_MAX, INIT_OVERHEAD, LENGTH_LEN, PROBE_DATAGRAM_MAX, RESP_OVERHEAD, RESP_RECEIVER_AT,
    TYPE_COOKIE, TYPE_DATA, TYPE_INIT, TYPE_RESP, header_type, load32,
)
from whcore.cookie cimport (
    COOKIE_MAC_LEN, COOKIE_SOURCE_LEN, cookie_check_mac1, cookie_check_mac2, cookie_checker, cookie_source,
)
from whcore.errors cimport WH_OK
from whcore.kernel cimport wh_le32, wh_le64
from whcore.sodium cimport sodium_memzero
from whcore.tunnel cimport INITIATION_LEN, MESSAGE_INITIATION, RESPONSE_LEN

cdef enum:
    TYPE_KNOCK = 6
    KNOCK_LEN = 12

# Tuning, a second. A cookie costs a worker 8 us, so these are 3% of a core; who got none asks again. Python asks for
# cookies itself above 200 INITs, so it needs to see not many more. Dial-back makes a node hear a few KNOCKs a minute.
cdef int64_t COOKIE_TOKEN_NS = 1_000_000_000 // 4_000
cdef int64_t INIT_TOKEN_NS = 1_000_000_000 // 300
cdef int64_t KNOCK_TOKEN_NS = 1_000_000_000 // 1_000
cdef int64_t BUDGET_MOST_NS = 1_000_000_000


cdef sieve_verdict sieve_control(control_sieve* sieve, const uint8_t* data, size_t n, const uint8_t* remote,
                                 uint32_t channel, int64_t now) noexcept nogil:
    cdef int kind = header_type(data, n)
    if n > DATAGRAM_MAX and (kind != TYPE_DATA or n > PROBE_DATAGRAM_MAX):
        return SIEVE_JUNK_LENGTH
    if kind == TYPE_DATA:
        if n < CONTROL_DATA_OVERHEAD + DATA_PLAINTEXT_MIN:
            return SIEVE_JUNK_LENGTH
        return is_known(sieve, load32(data + DATA_RECEIVER_AT))
    if kind == TYPE_INIT:
        if n < INIT_OVERHEAD + LENGTH_LEN:
            return SIEVE_JUNK_LENGTH
        if cookie_check_mac1(&sieve.checker, data, n) != WH_OK:
            return SIEVE_JUNK_MAC
        # On this machine nobody forges an address, and what comes over TCP comes from it.
        if channel == 0 and is_loopback(remote):
            return SIEVE_PASS
        return proved(&sieve.checker, data, n, remote, channel, now)
    if kind == TYPE_RESP:
        if n < RESP_OVERHEAD + LENGTH_LEN:
            return SIEVE_JUNK_LENGTH
        return is_known(sieve, load32(data + RESP_RECEIVER_AT))
    if kind == TYPE_COOKIE:
        return is_known(sieve, load32(data + COOKIE_RECEIVER_AT)) if n == CONTROL_COOKIE_LEN else SIEVE_JUNK_LENGTH
    if kind == TYPE_KNOCK:
        return SIEVE_UNPROVED if n == KNOCK_LEN else SIEVE_JUNK_LENGTH
    return SIEVE_JUNK_TYPE


cdef sieve_verdict sieve_handshake(cookie_checker* checker, const uint8_t* data, size_t n, const uint8_t* remote,
                                   uint32_t channel, bint proof_asked, int64_t now) noexcept nogil:
    if n != <size_t>(INITIATION_LEN if data[0] == MESSAGE_INITIATION else RESPONSE_LEN):
        return SIEVE_JUNK_LENGTH
    if cookie_check_mac1(checker, data, n) != WH_OK:
        return SIEVE_JUNK_MAC
    return proved(checker, data, n, remote, channel, now) if proof_asked else SIEVE_PASS


cdef sieve_verdict proved(cookie_checker* checker, const uint8_t* data, size_t n, const uint8_t* remote,
                          uint32_t channel, int64_t now) noexcept nogil:
    cdef uint8_t[COOKIE_SOURCE_LEN] source
    if wh_le64(data + n - COOKIE_MAC_LEN) == 0 and wh_le64(data + n - COOKIE_MAC_LEN // 2) == 0:
        return SIEVE_UNPROVED
    cookie_source(source, remote, channel)
    return SIEVE_PASS if cookie_check_mac2(checker, data, n, source, now) == WH_OK else SIEVE_UNPROVED


cdef inline sieve_verdict is_known(const control_sieve* sieve, uint32_t index) noexcept nogil:
    return SIEVE_PASS if sieve.known[index & (KNOWN_INDICES - 1)] else SIEVE_JUNK_INDEX


cdef inline bint is_loopback(const uint8_t* remote) noexcept nogil:
    """127.0.0.0/8 (mapped) and ::1."""
    if wh_le64(remote) != 0:
        return False
    if wh_le32(remote + 8) == <uint32_t>0xFFFF0000:
        return remote[12] == 127
    return wh_le32(remote + 8) == 0 and wh_le32(remote + 12) == 0x01000000


cdef void budgets_init(unproved_budget* cookies, unproved_budget* inits, unproved_budget* knocks) noexcept nogil:
    cookies.token_ns = COOKIE_TOKEN_NS
    inits.token_ns = INIT_TOKEN_NS
    knocks.token_ns = KNOCK_TOKEN_NS


cdef bint budget_take(unproved_budget* budget, bint leave_half, int64_t now) noexcept nogil:
    budget.credit_ns = min(BUDGET_MOST_NS, budget.credit_ns + max(now - budget.refilled_at, 0))
    budget.refilled_at = now
    if budget.credit_ns < budget.token_ns + (BUDGET_MOST_NS // 2 if leave_half else 0):
        return False
    budget.credit_ns -= budget.token_ns
    return True


@cython.final
cdef class ControlSieve:
    def __cinit__(self):
        self.s = <control_sieve*>calloc(1, sizeof(control_sieve))
        if self.s == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.s != NULL:
            sodium_memzero(self.s, sizeof(control_sieve))
            free(self.s)

    cdef void enter(self, uint32_t index) noexcept:
        cdef uint8_t* count = &self.s.known[index & (KNOWN_INDICES - 1)]
        if count[0] < 255:
            count[0] += 1

    cdef void leave(self, uint32_t index) noexcept:
        cdef uint8_t* count = &self.s.known[index & (KNOWN_INDICES - 1)]
        if count[0] < 255:
            count[0] -= 1
