"""From a worker to the handshake thread and to Python. The contracts are in queueing.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset

from whcore.control_wire cimport TYPE_COOKIE, TYPE_INIT, header_type, write_header
from whcore.cookie cimport (
    COOKIE_SOURCE_LEN, SCOPE_ADDRESS, cookie_checker, cookie_make, cookie_source, rate_limiter_allow,
)
from whcore.device cimport (
    CONTROL_DATA, COUNT_COOKIE_SENT, DROP_INDEX, DROP_LENGTH, DROP_MAC, DROP_QUEUE_FULL, DROP_UNKNOWN, DROP_UNPROVED,
    HANDSHAKE_DATA, index_find, record, ring, ring_publish, ring_reserve, wh_device, wh_path, wh_worker,
)
from whcore.errors cimport WH_OK
from whcore.forwarder cimport CHANNEL_HEADER_LEN
from whcore.kernel cimport (
    eventfd_write, wh_le32, wh_load_i64, wh_load_ptr, wh_load_u64, wh_put_le32, wh_wire_address,
)
from whcore.peer_paths cimport path_fill
from whcore.sending cimport send_on_path
from whcore.sieve cimport (
    SIEVE_JUNK_INDEX, SIEVE_JUNK_LENGTH, SIEVE_JUNK_MAC, SIEVE_PASS, SIEVE_UNPROVED, budget_take, control_sieve,
    sieve_control, sieve_handshake, sieve_verdict,
)
from whcore.tunnel cimport COOKIE_LEN, MESSAGE_COOKIE, MESSAGE_INITIATION, MESSAGE_RESPONSE
from whcore.worker cimport scratch


# --- handshakes -----------------------------------------------------------------------------------------------------

cdef void queue_handshake(wh_worker* w, scratch* s, int i, const uint8_t* data, size_t n, uint32_t channel, int socket,
                          int64_t now) noexcept nogil:
    cdef wh_device* dev = w.device
    cdef uint8_t remote[18]
    cdef sieve_verdict verdict = SIEVE_PASS
    cdef bint loaded = now < wh_load_i64(&dev.loaded_until) or crowded(&w.handshakes)
    wh_wire_address(remote, &s.sources[i])
    if data[0] == MESSAGE_COOKIE:
        verdict = SIEVE_PASS if n == COOKIE_LEN else SIEVE_JUNK_LENGTH
    else:
        verdict = sieve_handshake(&dev.checker, data, n, remote, channel, loaded, now)
    if data[0] != MESSAGE_INITIATION and verdict >= SIEVE_UNPROVED and not is_ours(dev, data):
        verdict = SIEVE_JUNK_INDEX
    if verdict == SIEVE_PASS:
        queue(w, &w.handshakes, s, i, data, n, QUEUED_PROVED if loaded else QUEUED_UNPROVED, channel, socket,
              HANDSHAKE_DATA, dev.kick_fd)
    elif verdict == SIEVE_UNPROVED:
        answer_cookie(w, s, i, &dev.checker, False, data, n, channel, socket, now)
    else:
        count_junk(w, verdict)


cdef inline bint is_ours(wh_device* dev, const uint8_t* data) noexcept nogil:
    """Whether a response or a cookie names an index of ours."""
    return index_find(dev, wh_le32(data + (8 if data[0] == MESSAGE_RESPONSE else 4))) != NULL


# --- control --------------------------------------------------------------------------------------------------------

cdef void queue_control(wh_worker* w, scratch* s, int i, const uint8_t* data, size_t n, uint32_t channel, int socket,
                        int64_t now) noexcept nogil:
    cdef control_sieve* sieve = <control_sieve*>wh_load_ptr(&w.device.sieve)
    cdef uint8_t remote[18]
    cdef sieve_verdict verdict = SIEVE_PASS
    cdef bint is_init = header_type(data, n) == TYPE_INIT
    if sieve != NULL:
        wh_wire_address(remote, &s.sources[i])
        verdict = sieve_control(sieve, data, n, remote, channel, now)
    # Python has reasons of its own to ask for a cookie; more than the budget none of them would let through.
    if verdict == SIEVE_PASS or (
        verdict == SIEVE_UNPROVED and not crowded(&w.controls)
        and budget_take(&w.inits if is_init else &w.knocks, False, now)
    ):
        queue(w, &w.controls, s, i, data, n, 0, channel, socket, CONTROL_DATA, w.device.event_fd)
    elif verdict != SIEVE_UNPROVED:
        count_junk(w, verdict)
    elif is_init:
        answer_cookie(w, s, i, &sieve.checker, True, data, n, channel, socket, now)
    else:
        w.counters[DROP_UNPROVED] += 1


# --- both -----------------------------------------------------------------------------------------------------------

cdef inline bint crowded(ring* r) noexcept nogil:
    """Half full: the rest is for who has proved something, so that a flood cannot keep it out."""
    return r.tail - wh_load_u64(&r.head) > r.slots // 2


cdef void count_junk(wh_worker* w, sieve_verdict verdict) noexcept nogil:
    if verdict == SIEVE_JUNK_LENGTH:
        w.counters[DROP_LENGTH] += 1
    elif verdict == SIEVE_JUNK_MAC:
        w.counters[DROP_MAC] += 1
    elif verdict == SIEVE_JUNK_INDEX:
        w.counters[DROP_INDEX] += 1
    else:
        w.counters[DROP_UNKNOWN] += 1


cdef void answer_cookie(wh_worker* w, scratch* s, int i, cookie_checker* checker, bint control, const uint8_t* data,
                        size_t n, uint32_t channel, int socket, int64_t now) noexcept nogil:
    """64 bytes for a handshake of 92 or more, to where it came from; to some of them where there are too many."""
    cdef uint8_t room[CHANNEL_HEADER_LEN + COOKIE_LEN]
    cdef uint8_t* reply = room + CHANNEL_HEADER_LEN
    cdef uint8_t source[COOKIE_SOURCE_LEN]
    cdef uint8_t remote[18]
    cdef wh_path path
    wh_wire_address(remote, &s.sources[i])
    cookie_source(source, remote, channel)
    if not may_answer(w, source, now) or path_fill(
        w.device, &path, socket, remote, channel, s.ancillary[i].source.ifindex
    ) != WH_OK:
        w.counters[DROP_UNPROVED] += 1
        return
    path.source = s.ancillary[i].source
    if control:
        write_header(reply, TYPE_COOKIE)
    else:
        memset(reply, 0, 4)
        reply[0] = MESSAGE_COOKIE
    wh_put_le32(reply + 4, wh_le32(data + 4))       # the sender's index stands there in both
    cookie_make(checker, data, n, source, now, reply + 8, reply + 32)
    if send_on_path(w.device, &path, reply, COOKIE_LEN, 0):
        w.counters[COUNT_COOKIE_SENT] += 1


cdef inline bint may_answer(wh_worker* w, const uint8_t* source, int64_t now) noexcept nogil:
    """Who asks often leaves half of the budget to who does not: else the loudest gets nearly all of it."""
    cdef uint8_t[16] sender             # an IPv4 address leaves the bytes free that the port goes into
    memcpy(sender, source, sizeof(sender))
    sender[8] ^= source[16]
    sender[9] ^= source[17]
    return budget_take(&w.cookies, rate_limiter_allow(&w.cookie_shares, sender, SCOPE_ADDRESS, now) != WH_OK, now)


cdef void queue(wh_worker* w, ring* r, scratch* s, int i, const uint8_t* data, size_t n, uint32_t kind, uint32_t channel,
                int socket, size_t limit, int wake_fd) noexcept nogil:
    cdef record* slot
    if n > limit:
        w.counters[DROP_LENGTH] += 1
        return
    slot = ring_reserve(r)
    if slot == NULL:
        w.counters[DROP_QUEUE_FULL] += 1
        return
    w.useful = True
    slot.kind = kind
    slot.len = <uint32_t>n
    slot.socket = socket
    slot.channel = channel
    slot.source = s.ancillary[i].source
    wh_wire_address(slot.remote, &s.sources[i])
    memcpy(slot.data, data, n)
    if ring_publish(r):
        eventfd_write(wake_fd, 1)
