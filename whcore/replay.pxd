"""Anti-replay window by bit blocks (RFC 6479), inlined into its users."""

from libc.stdint cimport uint64_t
from libc.string cimport memset

cdef enum:
    REPLAY_BLOCKS = 128                     # ring of 64-bit blocks: 8,192 bits
    REPLAY_WINDOW = (REPLAY_BLOCKS - 1) * 64

cdef struct replay_window:
    uint64_t last
    uint64_t blocks[REPLAY_BLOCKS]

cdef inline void replay_reset(replay_window* window) noexcept nogil:
    memset(window, 0, sizeof(replay_window))

# Accept a counter once: 1 if new and within the window of the highest seen, else 0. Call it only after the
# tag verified. limit: the first counter never accepted (REJECT_AFTER_MESSAGES), at most 2^64 - REPLAY_WINDOW,
# so that no sum below wraps.
cdef inline bint replay_accept(replay_window* window, uint64_t counter, uint64_t limit) noexcept nogil:
    cdef uint64_t block, current, distance, i, bit, old
    if counter >= limit:
        return 0
    if counter + REPLAY_WINDOW < window.last:
        return 0
    block = counter >> 6
    if counter > window.last:
        current = window.last >> 6
        distance = block - current
        if distance > REPLAY_BLOCKS:
            distance = REPLAY_BLOCKS
        for i in range(1, distance + 1):
            window.blocks[(current + i) & (REPLAY_BLOCKS - 1)] = 0
        window.last = counter
    bit = (<uint64_t>1) << (counter & 63)
    old = window.blocks[block & (REPLAY_BLOCKS - 1)]
    window.blocks[block & (REPLAY_BLOCKS - 1)] = old | bit
    return (old & bit) == 0
