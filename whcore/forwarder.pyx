"""Relay channels: see forwarder.pxd for structs and contracts. The functions stand in this order: the
directory of legs, the writer's changes, limits, forwarding."""

from libc.stdint cimport UINT64_MAX
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from whcore.errors cimport WH_E_LIMIT, WH_E_MEMORY, WH_E_STATE, WH_OK
from whcore.kernel cimport wh_add_u64, wh_load_ptr, wh_spin_lock, wh_spin_unlock, wh_store_ptr
from whcore.sodium cimport randombytes_buf

cdef enum:
    BUCKETS = 2 * FORWARD_CHANNELS      # one a leg; a power of two
    REMOTE_LEN = 18
    INNER_LEN_MIN = 4                   # the first bytes that say what a datagram is
    RUN_LEN_MAX = 65535

cdef int64_t NS_PER_S = 1_000_000_000
cdef int64_t NS_PER_DAY = 86_400 * NS_PER_S


# --- the directory of legs ------------------------------------------------------------------------------

cdef inline forward_leg** bucket_of(const forward_table* t, uint32_t id) noexcept nogil:
    return &t.buckets[id & (BUCKETS - 1)]       # ids are random: no hash is needed


cdef forward_leg* leg_find(const forward_table* t, uint32_t id) noexcept nogil:
    """Lock-free; NULL where there is none."""
    cdef forward_leg* leg = <forward_leg*>wh_load_ptr(bucket_of(t, id))
    while leg != NULL and leg.id != id:
        leg = <forward_leg*>wh_load_ptr(&leg.next)
    return leg


cdef uint32_t unused_id(const forward_table* t, uint32_t taken) noexcept nogil:
    cdef uint32_t id = 0
    while id == 0 or id == taken or leg_find(t, id) != NULL:
        randombytes_buf(&id, sizeof(id))
        id &= ~<uint32_t>CHANNEL_FROM_RELAY
    return id


cdef void link_leg(forward_table* t, forward_leg* leg) noexcept nogil:
    cdef forward_leg** bucket = bucket_of(t, leg.id)
    leg.next = bucket[0]
    wh_store_ptr(bucket, leg)


cdef void unlink_leg(forward_table* t, forward_leg* leg) noexcept nogil:
    """leg.next stays: a reader may stand on it."""
    cdef forward_leg** link = bucket_of(t, leg.id)
    while link[0] != leg:
        link = &link[0].next
    wh_store_ptr(link, leg.next)


# --- the writer -----------------------------------------------------------------------------------------

cdef int forward_table_init(forward_table* t) noexcept nogil:
    memset(t, 0, sizeof(forward_table))
    t.buckets = <forward_leg**>calloc(BUCKETS, sizeof(forward_leg*))
    return WH_OK if t.buckets != NULL else WH_E_MEMORY


cdef void forward_table_free(forward_table* t) noexcept nogil:
    while t.channels != NULL:
        take_out(t, t.channels)
    forward_free_list(forward_take_retired(t))
    free(t.buckets)
    t.buckets = NULL


cdef void retire(forward_table* t, forward_retired* item, void* path) noexcept nogil:
    item.path = path
    item.next = t.retired
    t.retired = item


cdef forward_retired* forward_take_retired(forward_table* t) noexcept nogil:
    cdef forward_retired* chain = t.retired
    t.retired = NULL
    return chain


cdef void forward_free_list(forward_retired* chain) noexcept nogil:
    cdef forward_retired* item
    while chain != NULL:
        item = chain
        chain = item.next
        free(item.path)
        free(item)


cdef forward_end* end_new(const forward_place* place) noexcept nogil:
    cdef forward_end* end = <forward_end*>calloc(1, sizeof(forward_end))
    if end != NULL:
        end.place = place[0]
    return end


cdef int forward_open(forward_table* t, const forward_place* opener, const forward_place* target,
                      const forward_limits* limits, int64_t now, uint32_t* ids) noexcept nogil:
    cdef forward_channel* channel
    if t.count == FORWARD_CHANNELS:
        return WH_E_LIMIT
    channel = channel_new(opener, target)
    if channel == NULL:
        return WH_E_MEMORY
    set_limits(channel, limits)
    channel.last_at[OPENER] = channel.last_at[TARGET] = now
    ids[OPENER] = channel.legs[OPENER].id = unused_id(t, 0)
    ids[TARGET] = channel.legs[TARGET].id = unused_id(t, ids[OPENER])
    link_leg(t, &channel.legs[OPENER])
    link_leg(t, &channel.legs[TARGET])
    channel.following = t.channels
    if t.channels != NULL:
        t.channels.previous = channel
    t.channels = channel
    t.count += 1
    return WH_OK


cdef forward_channel* channel_new(const forward_place* opener, const forward_place* target) noexcept nogil:
    cdef forward_channel* channel = <forward_channel*>calloc(1, sizeof(forward_channel))
    cdef forward_end* ends[2]
    cdef uint32_t side
    ends[OPENER] = end_new(opener)
    ends[TARGET] = end_new(target)
    if channel == NULL or ends[OPENER] == NULL or ends[TARGET] == NULL:
        free(ends[OPENER])
        free(ends[TARGET])
        free(channel)
        return NULL
    for side in range(2):
        channel.legs[side].channel = channel
        channel.legs[side].side = side
        channel.legs[side].end = ends[side]
    return channel


cdef inline void set_limits(forward_channel* channel, const forward_limits* limits) noexcept nogil:
    set_bucket(&channel.bucket, limits.rate, limits.burst)
    channel.quota = limits.quota
    channel.trusted = limits.trusted


cdef int forward_limit(forward_table* t, uint32_t id, const forward_limits* limits) noexcept nogil:
    cdef forward_leg* leg = leg_find(t, id)
    if leg == NULL:
        return WH_E_STATE
    wh_spin_lock(&leg.channel.lock)
    set_limits(leg.channel, limits)
    wh_spin_unlock(&leg.channel.lock)
    return WH_OK


cdef int forward_move(forward_table* t, uint32_t id, const forward_place* place) noexcept nogil:
    cdef forward_leg* leg = leg_find(t, id)
    cdef forward_end* old
    cdef forward_end* end
    if leg == NULL:
        return WH_E_STATE
    end = end_new(place)
    if end == NULL:
        return WH_E_MEMORY
    old = leg.end
    wh_store_ptr(&leg.end, end)
    retire(t, &old.retired, old.place.path)
    return WH_OK


cdef void take_out(forward_table* t, forward_channel* channel) noexcept nogil:
    cdef forward_leg* leg
    cdef uint32_t side
    for side in range(2):
        leg = &channel.legs[side]
        unlink_leg(t, leg)
        retire(t, &leg.end.retired, leg.end.place.path)
    if channel.previous != NULL:
        channel.previous.following = channel.following
    else:
        t.channels = channel.following
    if channel.following != NULL:
        channel.following.previous = channel.previous
    t.count -= 1
    retire(t, &channel.retired, NULL)


cdef int forward_close(forward_table* t, uint32_t id) noexcept nogil:
    cdef forward_leg* leg = leg_find(t, id)
    if leg == NULL:
        return WH_E_STATE
    take_out(t, leg.channel)
    return WH_OK


cdef void read_status(forward_channel* channel, forward_status* status) noexcept nogil:
    cdef uint32_t side
    for side in range(2):
        status.ids[side] = channel.legs[side].id
        status.sockets[side] = channel.legs[side].end.place.socket
        memcpy(status.remotes[side], channel.legs[side].end.place.remote, REMOTE_LEN)
    wh_spin_lock(&channel.lock)
    status.proved = channel.proved
    memcpy(status.packets, channel.packets, sizeof(status.packets))
    memcpy(status.bytes, channel.bytes, sizeof(status.bytes))
    memcpy(status.drops, channel.drops, sizeof(status.drops))
    memcpy(status.last_at, channel.last_at, sizeof(status.last_at))
    wh_spin_unlock(&channel.lock)


cdef uint32_t forward_expire(forward_table* t, int64_t now, int64_t silence_ns, forward_visitor visit,
                             void* context) noexcept nogil:
    cdef forward_channel* channel = t.channels
    cdef forward_channel* following
    cdef forward_status status
    cdef uint32_t closed = 0
    while channel != NULL:
        following = channel.following
        read_status(channel, &status)
        if now - max(status.last_at[OPENER], status.last_at[TARGET]) >= silence_ns:
            if visit != NULL:
                visit(&status, context)
            take_out(t, channel)
            closed += 1
        channel = following
    return closed


cdef void forward_walk(forward_table* t, forward_visitor visit, void* context) noexcept nogil:
    cdef forward_channel* channel = t.channels
    cdef forward_status status
    while channel != NULL:
        read_status(channel, &status)
        visit(&status, context)
        channel = channel.following


cdef int forward_find(forward_table* t, uint32_t id, forward_status* status) noexcept nogil:
    cdef forward_leg* leg = leg_find(t, id)
    if leg == NULL:
        return WH_E_STATE
    read_status(leg.channel, status)
    return WH_OK


# --- limits ---------------------------------------------------------------------------------------------

cdef void set_bucket(forward_bucket* bucket, uint64_t rate, uint32_t burst) noexcept nogil:
    """Keeps what was taken out; no product below overflows for any burst and a rate of up to 2^62."""
    bucket.rate = min(rate, <uint64_t>1 << 62)
    bucket.burst = burst
    bucket.full_ns = 0 if rate == 0 else pay_time(bucket, burst)


cdef inline int64_t pay_time(const forward_bucket* bucket, uint64_t n) noexcept nogil:
    """Nanoseconds that n (below 2^32) bytes take at the bucket's rate, rounded up."""
    return <int64_t>((n * <uint64_t>NS_PER_S + bucket.rate - 1) // bucket.rate)


cdef uint64_t bucket_room(const forward_bucket* bucket, int64_t now) noexcept nogil:
    cdef int64_t owed = max(bucket.paid_at - now, 0)
    if bucket.rate == 0:
        return UINT64_MAX
    if owed >= bucket.full_ns:
        return 0
    return min(<uint64_t>(bucket.full_ns - owed) * bucket.rate // <uint64_t>NS_PER_S, bucket.burst)


cdef void bucket_take(forward_bucket* bucket, uint64_t n, int64_t now) noexcept nogil:
    if bucket.rate:
        bucket.paid_at = max(bucket.paid_at, now) + pay_time(bucket, n)


cdef void forward_set_totals(forward_table* t, uint64_t rate, uint32_t burst,
                             uint64_t day_quota) noexcept nogil:
    wh_spin_lock(&t.totals.lock)
    set_bucket(&t.totals.bucket, rate, burst)
    t.totals.day_quota = day_quota
    wh_spin_unlock(&t.totals.lock)


cdef inline void narrow(uint64_t* room, uint64_t limit, int* reason, int code) noexcept nogil:
    if limit < room[0]:
        room[0] = limit
        reason[0] = code


cdef inline uint64_t left_of(uint64_t quota, uint64_t used) noexcept nogil:
    if quota == 0:
        return UINT64_MAX
    return quota - used if used < quota else 0


cdef uint64_t totals_room(forward_totals* totals, uint64_t room, int64_t now, int* reason) noexcept nogil:
    if now - totals.day_started_at >= NS_PER_DAY:
        totals.day_started_at = now
        totals.day_bytes = 0
    narrow(&room, bucket_room(&totals.bucket, now), reason, FORWARD_RATE)
    narrow(&room, left_of(totals.day_quota, totals.day_bytes), reason, FORWARD_QUOTA)
    return room


cdef uint64_t channel_room(const forward_channel* channel, uint32_t side, int64_t now,
                           int* reason) noexcept nogil:
    cdef uint64_t room = UINT64_MAX, used = channel.bytes[OPENER] + channel.bytes[TARGET]
    if side == OPENER and not channel.proved:
        narrow(&room, FORWARD_UNPROVED_BYTES - channel.bytes[OPENER], reason, FORWARD_UNPROVED)
    narrow(&room, bucket_room(&channel.bucket, now), reason, FORWARD_RATE)
    narrow(&room, left_of(channel.quota, used), reason, FORWARD_QUOTA)
    return room


cdef inline size_t segments_in(size_t n, size_t segment_len) noexcept nogil:
    return (n + segment_len - 1) // segment_len


cdef size_t admit(forward_table* t, forward_leg* leg, size_t n, size_t segment_len, int64_t now,
                  int* reason) noexcept nogil:
    """Charge a run. Returns the bytes of the leading segments that every limit lets through; reason: what
    refused the rest, FORWARD_OK where there is none."""
    cdef forward_channel* channel = leg.channel
    cdef forward_totals* totals = &t.totals
    cdef uint64_t room
    cdef size_t admitted = n
    reason[0] = FORWARD_OK
    wh_spin_lock(&channel.lock)
    channel.proved |= leg.side == TARGET
    room = channel_room(channel, leg.side, now, reason)
    if not channel.trusted:
        wh_spin_lock(&totals.lock)
        room = totals_room(totals, room, now, reason)
    if n > room:
        admitted = <size_t>room // segment_len * segment_len
        channel.drops[reason[0]] += segments_in(n - admitted, segment_len)
    else:
        reason[0] = FORWARD_OK
    if not channel.trusted:
        bucket_take(&totals.bucket, admitted, now)
        totals.day_bytes += admitted
        wh_spin_unlock(&totals.lock)
    if admitted:
        bucket_take(&channel.bucket, admitted, now)
        channel.packets[leg.side] += segments_in(admitted, segment_len)
        channel.bytes[leg.side] += admitted
        channel.last_at[leg.side] = max(channel.last_at[leg.side], now)
    wh_spin_unlock(&channel.lock)
    return admitted


# --- forwarding -----------------------------------------------------------------------------------------

cdef int check_segment(const uint8_t* data, const uint8_t* segment, size_t n) noexcept nogil:
    """segment: n bytes; data: the run's first one, whose header it must share."""
    if n < CHANNEL_HEADER_LEN + INNER_LEN_MIN:
        return FORWARD_LENGTH
    if memcmp(segment, data, CHANNEL_HEADER_LEN) != 0:
        return FORWARD_MIXED
    if wh_le32(segment + CHANNEL_HEADER_LEN) == CHANNEL_WORD:
        return FORWARD_NESTED
    return FORWARD_OK


cdef int check_run(const uint8_t* data, size_t n, size_t segment_len, uint32_t* id) noexcept nogil:
    """FORWARD_OK where every segment can go the way of the first. A bad one must not cost its neighbours
    their way: only a single datagram gets another verdict than FORWARD_MIXED."""
    cdef size_t at = 0, length
    cdef int code
    while at < n:
        length = min(segment_len, n - at)
        code = check_segment(data, data + at, length)
        if code != FORWARD_OK:
            return code if length == n else FORWARD_MIXED
        at += length
    return FORWARD_OK if channel_header(data, n, id) else FORWARD_UNKNOWN


cdef int count_drops(forward_table* t, int code, size_t segments) noexcept nogil:
    if code > FORWARD_OK and segments:
        wh_add_u64(&t.drops[code], segments)
    return code


cdef int forward_segments(forward_table* t, int socket, const uint8_t* remote, uint8_t* data, size_t n,
                          size_t segment_len, int64_t now, forward_verdict* verdict) noexcept nogil:
    cdef uint32_t id = 0
    cdef size_t at = 0
    cdef forward_leg* leg
    cdef forward_leg* other
    cdef forward_end* end
    cdef int code
    if segment_len == 0 or segment_len > n:
        segment_len = n
    if n == 0 or n > RUN_LEN_MAX:
        return count_drops(t, FORWARD_LENGTH, 1)
    code = check_run(data, n, segment_len, &id)
    if code != FORWARD_OK:
        return count_drops(t, code, segments_in(n, segment_len))
    leg = leg_find(t, id)
    if leg == NULL:
        return count_drops(t, FORWARD_UNKNOWN, segments_in(n, segment_len))
    end = <forward_end*>wh_load_ptr(&leg.end)
    if end.place.socket != socket or memcmp(end.place.remote, remote, REMOTE_LEN) != 0:
        return count_drops(t, FORWARD_ADDRESS, segments_in(n, segment_len))
    verdict.n = admit(t, leg, n, segment_len, now, &code)
    count_drops(t, code, segments_in(n - verdict.n, segment_len))
    if verdict.n == 0:
        return code
    wh_add_u64(&t.packets, segments_in(verdict.n, segment_len))
    wh_add_u64(&t.bytes, verdict.n)
    other = &leg.channel.legs[1 - leg.side]
    verdict.place = &(<forward_end*>wh_load_ptr(&other.end)).place
    verdict.channel = other.id | CHANNEL_FROM_RELAY
    while at < verdict.n:
        put_channel_header(data + at, verdict.channel)
        at += segment_len
    return FORWARD_OK
