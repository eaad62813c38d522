"""Relay channels (docs/protocol.md section 8): CHANNEL datagrams are looked up, re-addressed in place and
charged.

A channel has two legs, the opener's and the target's. A client sends with its own leg's id, bit 31 clear; the
relay passes the datagram on under the other leg's id, bit 31 set. What follows the 8 header bytes is never
written.

Readers (forward_segments) run without a lock beside one writer. What the writer takes out is handed to
`retired`, for the owner to free once every reader passed a quiescent point; until its next one, a reader may
use what a verdict points to. Only the limits are charged under spin locks: a channel's, and in it that of the
totals.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from whcore.kernel cimport wh_le32, wh_put_le32

cdef enum:
    CHANNEL_HEADER_LEN = 8              # FF 02 05 00, then the channel, both little-endian words
    CHANNEL_WORD = 0x000502FF
    CHANNEL_FROM_RELAY = 0x80000000     # bit 31 of the channel: relay to client
    FORWARD_CHANNELS = 4096             # channels open at once
    FORWARD_UNPROVED_BYTES = 4096       # forwarded to a target that has not sent yet

cdef enum:                              # what became of a run of segments
    FORWARD_MIXED = -1                  # segments differ or one is bad: nothing done; try each one by itself
    FORWARD_OK = 0
    FORWARD_UNKNOWN                     # no such leg
    FORWARD_ADDRESS                     # the leg exists, its client is elsewhere
    FORWARD_NESTED                      # a CHANNEL inside a CHANNEL
    FORWARD_LENGTH
    FORWARD_RATE                        # the channel's or the relay's
    FORWARD_QUOTA
    FORWARD_UNPROVED                    # over FORWARD_UNPROVED_BYTES to a silent target
    FORWARD_CODES

cdef enum:                              # a leg's side of its channel
    OPENER = 0
    TARGET = 1

cdef struct forward_place:              # where a client is; immutable once published, replaced as a whole
    int socket
    uint8_t remote[18]
    void* path                          # the owner's way to send there; from malloc, freed with the place

cdef struct forward_limits:
    uint64_t rate                       # bytes/s; 0: unlimited
    uint32_t burst                      # bytes that may pass at once; of no use below one datagram
    uint64_t quota                      # bytes both ways in the channel's life; 0: unlimited
    bint trusted                        # the relay's totals do not apply

cdef struct forward_bucket:             # of tokens, kept as the time at which none is owed any more
    uint64_t rate                       # bytes/s; 0: unlimited
    uint64_t burst                      # bytes
    int64_t full_ns                     # the time that burst bytes take
    int64_t paid_at

cdef struct forward_totals:             # of all channels that are not trusted
    uint32_t lock
    forward_bucket bucket
    uint64_t day_quota                  # bytes in 24 hours; 0: unlimited
    uint64_t day_bytes
    int64_t day_started_at

cdef struct forward_retired:            # first member of what is freed later
    forward_retired* next
    void* path

cdef struct forward_end:
    forward_retired retired
    forward_place place

cdef struct forward_leg:
    forward_leg* next                   # in its bucket; atomic
    forward_channel* channel
    forward_end* end                    # atomic
    uint32_t id                         # 1..2^31-1, random
    uint32_t side

cdef struct forward_channel:
    forward_retired retired
    forward_channel* previous           # the writer's list
    forward_channel* following
    forward_leg legs[2]                 # by side
    uint32_t lock                       # guards all below
    bint trusted
    bint proved                         # the target has sent
    forward_bucket bucket
    uint64_t quota                      # bytes; 0: unlimited
    uint64_t packets[2]                 # forwarded, by the side that sent them
    uint64_t bytes[2]                   # whole datagrams with their channel header
    uint64_t drops[FORWARD_CODES]       # datagrams, by reason
    int64_t last_at[2]                  # of the last datagram forwarded, by the side that sent it; at first of the opening

cdef struct forward_table:
    forward_leg** buckets
    forward_channel* channels
    uint32_t count
    forward_retired* retired
    forward_totals totals
    uint64_t packets                    # forwarded; atomic, as the next two
    uint64_t bytes
    uint64_t drops[FORWARD_CODES]

cdef struct forward_verdict:
    const forward_place* place          # where to send
    size_t n                            # how much of the run to send: whole segments from its start
    uint32_t channel                    # what was written into their headers

cdef struct forward_status:             # of one channel, read at one moment
    uint32_t ids[2]
    int sockets[2]
    uint8_t remotes[2][18]
    bint proved
    uint64_t packets[2]
    uint64_t bytes[2]
    uint64_t drops[FORWARD_CODES]
    int64_t last_at[2]

ctypedef void (*forward_visitor)(const forward_status* status, void* context) noexcept nogil

# --- readers --------------------------------------------------------------------------------------------

# Forward n bytes that came from remote (18 bytes) on socket: a run of datagrams of segment_len bytes, the
# last may be shorter; segment_len 0 or over n: one datagram. FORWARD_OK fills the verdict: the leading
# segments that the limits let through have their new header, the others are dropped and counted. Any other
# code: nothing to send, data unchanged, drops counted except for FORWARD_MIXED. now: monotonic ns.
cdef int forward_segments(forward_table* t, int socket, const uint8_t* remote, uint8_t* data, size_t n,
                          size_t segment_len, int64_t now, forward_verdict* verdict) noexcept nogil

# --- the writer -----------------------------------------------------------------------------------------

# WH_OK or WH_E_MEMORY.
cdef int forward_table_init(forward_table* t) noexcept nogil
# Frees everything at once: no reader may run. Idempotent.
cdef void forward_table_free(forward_table* t) noexcept nogil
# Limits of all channels together that are not trusted; 0: unlimited. day_quota: bytes in 24 hours.
cdef void forward_set_totals(forward_table* t, uint64_t rate, uint32_t burst,
                             uint64_t day_quota) noexcept nogil
# Open a channel; ids receives the opener's and the target's leg id. WH_OK, WH_E_LIMIT (FORWARD_CHANNELS are
# open), WH_E_MEMORY; on failure the places' paths stay the caller's.
cdef int forward_open(forward_table* t, const forward_place* opener, const forward_place* target,
                      const forward_limits* limits, int64_t now, uint32_t* ids) noexcept nogil
# Other limits for the channel of leg id, from the next datagram on. WH_OK or WH_E_STATE (no such leg).
cdef int forward_limit(forward_table* t, uint32_t id, const forward_limits* limits) noexcept nogil
# The client of leg id is elsewhere now. WH_OK, WH_E_STATE (no such leg), WH_E_MEMORY; on failure the path
# stays the caller's.
cdef int forward_move(forward_table* t, uint32_t id, const forward_place* place) noexcept nogil
# Close the channel that leg id, either of the two, belongs to. WH_OK or WH_E_STATE (no such leg).
cdef int forward_close(forward_table* t, uint32_t id) noexcept nogil
# Close each channel that forwarded nothing for silence_ns; visit() hears of it first, unless it is NULL.
# Returns how many.
cdef uint32_t forward_expire(forward_table* t, int64_t now, int64_t silence_ns, forward_visitor visit,
                             void* context) noexcept nogil
# visit() for each channel, the newest first.
cdef void forward_walk(forward_table* t, forward_visitor visit, void* context) noexcept nogil
# WH_OK and the status of the channel that leg id belongs to, or WH_E_STATE.
cdef int forward_find(forward_table* t, uint32_t id, forward_status* status) noexcept nogil
# Detach what was taken out so far: a chain for forward_free_list, which frees it with its paths.
cdef forward_retired* forward_take_retired(forward_table* t) noexcept nogil
cdef void forward_free_list(forward_retired* chain) noexcept nogil


# --- the header, on both ends ---------------------------------------------------------------------------

# Whether n bytes begin with a CHANNEL header, and its channel: with CHANNEL_FROM_RELAY set it is for us as a
# client, else as a relay.
cdef inline bint channel_header(const uint8_t* data, size_t n, uint32_t* channel) noexcept nogil:
    if n < CHANNEL_HEADER_LEN or wh_le32(data) != CHANNEL_WORD:
        return False
    channel[0] = wh_le32(data + 4)
    return True


# The CHANNEL_HEADER_LEN bytes that precede a datagram in a channel.
cdef inline void put_channel_header(uint8_t* out, uint32_t channel) noexcept nogil:
    wh_put_le32(out, CHANNEL_WORD)
    wh_put_le32(out + 4, channel)
