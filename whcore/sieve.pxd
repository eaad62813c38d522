"""Which datagrams for the slow ways, handshakes and control, are worth a place in their queues.

A packet worker asks before it queues one. What cannot be meant for us, and what could be but says nothing of who sent
it, must cost a flood's victim little more than receiving it.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t

from whcore.cookie cimport cookie_checker

cdef enum:
    KNOWN_INDICES = 1 << 16

cdef enum sieve_verdict:
    SIEVE_JUNK_LENGTH               # no datagram of that type has this length
    SIEVE_JUNK_TYPE
    SIEVE_JUNK_MAC
    SIEVE_JUNK_INDEX                # a receiver index that nobody was given
    SIEVE_UNPROVED                  # a handshake or KNOCK whose sender proved nothing
    SIEVE_PASS

cdef struct control_sieve:
    cookie_checker checker          # of the node's key
    uint8_t known[KNOWN_INDICES]    # by an index's low 16 bits: how many there are; 255 stays. Written by one thread

cdef struct unproved_budget:        # a token bucket of one worker's
    int64_t token_ns                # 1 s / what may be looked at in one
    int64_t credit_ns
    int64_t refilled_at

# remote, channel: where the datagram comes from. (worker, lock-free)
cdef sieve_verdict sieve_control(control_sieve* sieve, const uint8_t* data, size_t n, const uint8_t* remote,
                                 uint32_t channel, int64_t now) noexcept nogil
# A WireGuard initiation or response: its length and mac1. proof_asked: whether a mac2 matters, which takes longer.
cdef sieve_verdict sieve_handshake(cookie_checker* checker, const uint8_t* data, size_t n, const uint8_t* remote,
                                   uint32_t channel, bint proof_asked, int64_t now) noexcept nogil
cdef void budgets_init(unproved_budget* cookies, unproved_budget* inits, unproved_budget* knocks) noexcept nogil
# Whether one more of the unproved may be looked at. leave_half: only while more than half of a full budget is there.
cdef bint budget_take(unproved_budget* budget, bint leave_half, int64_t now) noexcept nogil


@cython.final
cdef class ControlSieve:
    """Memory of a control_sieve, shared by the control sessions, which fill it, and a data plane."""
    cdef control_sieve* s

    cdef void enter(self, uint32_t index) noexcept
    cdef void leave(self, uint32_t index) noexcept
