"""Relay channels for Python: the forwarder's table, and the CHANNEL header of both ends. For tests and for
those who embed the core; in a daemon the datapath owns the table."""

from collections import namedtuple

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from whcore.errors cimport WH_E_LIMIT, WH_OK, raise_rc
from whcore.forwarder cimport (
    CHANNEL_HEADER_LEN, FORWARD_CHANNELS, FORWARD_CODES, FORWARD_MIXED, FORWARD_OK, FORWARD_UNPROVED_BYTES,
    OPENER, TARGET, channel_header, forward_close, forward_expire, forward_free_list, forward_limit, forward_limits,
    forward_move, forward_open, forward_place, forward_retired, forward_segments, forward_set_totals,
    forward_status, forward_table, forward_table_free, forward_table_init, forward_take_retired,
    forward_verdict, forward_walk, put_channel_header,
)
from whcore.kernel cimport wh_add_u64, wh_fence, wh_load_u64

from whcore.errors import SystemFailure

cdef enum:
    REMOTE_LEN = 18

Forwarded = namedtuple("Forwarded", "socket remote data")
ChannelStatus = namedtuple("ChannelStatus", "ids places proved packets bytes drops last_at_ns")
ForwardCounters = namedtuple("ForwardCounters", "packets bytes drops")

# In the order of the codes in forwarder.pxd, after FORWARD_OK.
DROP_REASONS = ("unknown", "address", "nested", "length", "rate", "quota", "unproved")
assert len(DROP_REASONS) == FORWARD_CODES - 1
MIXED = "mixed"
CHANNELS_MAX = FORWARD_CHANNELS
UNPROVED_BYTES_MAX = FORWARD_UNPROVED_BYTES


def encode_channel(uint32_t channel, bytes datagram not None):
    """datagram with the 8 bytes of a CHANNEL header before it (docs/protocol.md section 2)."""
    cdef uint8_t header[CHANNEL_HEADER_LEN]
    put_channel_header(header, channel)
    return PyBytes_FromStringAndSize(<char*>header, CHANNEL_HEADER_LEN) + datagram


def decode_channel_untrusted(bytes datagram not None):
    """(channel, what it carries), or None where this is no CHANNEL. Bit 31 of channel: relay to client."""
    cdef uint32_t channel = 0
    if not channel_header(datagram, len(datagram), &channel):
        return None
    return channel, datagram[CHANNEL_HEADER_LEN:]


cdef forward_place place_of(tuple place) except *:
    cdef forward_place found
    cdef bytes remote
    found.socket, remote = place
    if len(remote) != REMOTE_LEN:
        raise ValueError("an address is 18 bytes")
    memcpy(found.remote, PyBytes_AS_STRING(remote), REMOTE_LEN)
    found.path = NULL
    return found


cdef object remote_bytes(const uint8_t* remote):
    return PyBytes_FromStringAndSize(<const char*>remote, REMOTE_LEN)


cdef dict drops_of(const uint64_t* drops):
    return {reason: drops[i + 1] for i, reason in enumerate(DROP_REASONS)}


cdef object status_of(const forward_status* status):
    return ChannelStatus(
        ids=(status.ids[OPENER], status.ids[TARGET]),
        places=tuple([(status.sockets[side], remote_bytes(status.remotes[side])) for side in range(2)]),
        proved=bool(status.proved),
        packets=(status.packets[OPENER], status.packets[TARGET]),
        bytes=(status.bytes[OPENER], status.bytes[TARGET]),
        drops=drops_of(status.drops),
        last_at_ns=(status.last_at[OPENER], status.last_at[TARGET]),
    )


cdef void append_status(const forward_status* status, void* context) noexcept with gil:
    (<list>context).append(status_of(status))


@cython.final
cdef class ForwardTable:
    """The channels of a relay. A place is (socket number, 18-byte address), times are monotonic ns. forward()
    may run in several threads beside one that does the rest."""

    cdef forward_table table
    cdef uint64_t readers               # inside forward(); what was retired waits until there is none
    cdef forward_retired* waiting

    def __cinit__(self):
        if forward_table_init(&self.table) != WH_OK:
            raise MemoryError

    def __dealloc__(self):
        forward_free_list(self.waiting)
        forward_table_free(&self.table)

    def __len__(self):
        return self.table.count

    cdef void reclaim(self) noexcept:
        cdef forward_retired* chain = forward_take_retired(&self.table)
        cdef forward_retired* last = chain
        if chain != NULL:
            while last.next != NULL:
                last = last.next
            last.next = self.waiting
            self.waiting = chain
        wh_fence()          # whoever comes in from here on sees what was unlinked
        if wh_load_u64(&self.readers) == 0:
            forward_free_list(self.waiting)
            self.waiting = NULL

    def set_totals(self, *, uint64_t rate=0, uint32_t burst=0, uint64_t day_quota=0):
        """Limit all channels together that are not trusted: bytes/s, bytes, bytes a day; 0: no limit."""
        forward_set_totals(&self.table, rate, burst, day_quota)

    def open(self, tuple opener not None, tuple target not None, *, uint64_t rate=0, uint32_t burst=0,
             uint64_t quota=0, bint trusted=False, int64_t now_ns):
        """Open a channel between two places. Returns the opener's and the target's leg id, 1..2^31-1.
        rate: bytes/s, burst and quota: bytes; 0: unlimited. Raises SystemFailure where the table is full."""
        cdef forward_limits limits
        cdef forward_place places[2]
        cdef uint32_t ids[2]
        places[OPENER], places[TARGET] = place_of(opener), place_of(target)
        limits.rate, limits.burst, limits.quota, limits.trusted = rate, burst, quota, trusted
        rc = forward_open(&self.table, &places[OPENER], &places[TARGET], &limits, now_ns, ids)
        if rc == WH_E_LIMIT:
            raise SystemFailure(f"{FORWARD_CHANNELS} channels are open")
        if rc != WH_OK:
            raise_rc(rc, "channel")
        return ids[OPENER], ids[TARGET]

    def move(self, uint32_t id, tuple place not None):
        """The client of leg id is at another place now. Raises SystemFailure where there is no such leg."""
        cdef forward_place moved = place_of(place)
        rc = forward_move(&self.table, id, &moved)
        self.reclaim()
        if rc != WH_OK:
            raise_rc(rc, "leg")

    def limit(self, uint32_t id, *, uint64_t rate=0, uint32_t burst=0, uint64_t quota=0, bint trusted=False):
        """Other limits for the channel of leg id than open() gave it. Raises SystemFailure where there is none."""
        cdef forward_limits limits
        limits.rate, limits.burst, limits.quota, limits.trusted = rate, burst, quota, trusted
        rc = forward_limit(&self.table, id, &limits)
        if rc != WH_OK:
            raise_rc(rc, "leg")

    def close(self, uint32_t id):
        """Close the channel of leg id, either of its two. Raises SystemFailure where there is no such leg."""
        rc = forward_close(&self.table, id)
        self.reclaim()
        if rc != WH_OK:
            raise_rc(rc, "leg")

    def expire(self, *, int64_t now_ns, int64_t silence_ns):
        """Close what forwarded nothing for silence_ns; returns their last status."""
        closed = []
        forward_expire(&self.table, now_ns, silence_ns, append_status, <void*>closed)
        self.reclaim()
        return closed

    def forward(self, int socket, bytes remote not None, bytes data not None, *, size_t segment_len=0,
                int64_t now_ns):
        """Forward one run of datagrams: segment_len bytes each, the last may be shorter; 0: one datagram.
        Returns Forwarded, whose data may be a shorter run, or the reason why nothing is sent: MIXED or one
        of DROP_REASONS."""
        cdef forward_verdict verdict
        cdef uint8_t* run
        cdef const uint8_t* source = remote
        cdef size_t n = len(data)
        cdef int code
        if len(remote) != REMOTE_LEN:
            raise ValueError("an address is 18 bytes")
        mutable = bytearray(data)
        run = mutable
        with nogil:
            wh_add_u64(&self.readers, 1)
            wh_fence()
            code = forward_segments(&self.table, socket, source, run, n, segment_len, now_ns, &verdict)
        try:
            if code == FORWARD_OK:
                return Forwarded(verdict.place.socket, remote_bytes(verdict.place.remote),
                                 bytes(mutable[:verdict.n]))
            return MIXED if code == FORWARD_MIXED else DROP_REASONS[code - 1]
        finally:
            wh_fence()
            wh_add_u64(&self.readers, <uint64_t>-1)

    def channels(self):
        """The status of each channel, the newest first."""
        found = []
        forward_walk(&self.table, append_status, <void*>found)
        return found

    def counters(self):
        """What the table forwarded and dropped since it was made: packets, bytes, {reason: packets}."""
        return ForwardCounters(self.table.packets, self.table.bytes, drops_of(self.table.drops))
