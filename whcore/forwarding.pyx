"""The worker's part in relaying: see forwarding.pxd. Payload is neither copied nor read: what GRO made one receive
leaves as one send."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from whcore.device cimport COUNT_FORWARDED, COUNT_TX_SENDS, DROP_FORWARD, DROP_SEND, wh_path, wh_worker
from whcore.forwarder cimport (
    CHANNEL_FROM_RELAY, FORWARD_MIXED, FORWARD_OK, channel_header, forward_segments, forward_verdict,
)
from whcore.kernel cimport EIO, EMSGSIZE, errno, wh_wire_address
from whcore.sending cimport send_datagrams
from whcore.worker cimport RUN_BYTES, scratch


cdef bint forward_run(wh_worker* w, scratch* s, int i, uint8_t* data, size_t n, size_t segment_len, int socket,
                      int64_t now) noexcept nogil:
    cdef forward_verdict verdict
    cdef uint8_t remote[18]
    cdef uint32_t channel
    cdef size_t datagrams
    cdef int code
    if not channel_header(data, n, &channel) or channel & CHANNEL_FROM_RELAY:
        return False
    wh_wire_address(remote, &s.sources[i])
    code = forward_segments(&w.device.forwards, socket, remote, data, n, segment_len, now, &verdict)
    if code == FORWARD_MIXED:
        return False
    datagrams = (n + segment_len - 1) // segment_len
    if code == FORWARD_OK:
        w.useful = True
        w.counters[COUNT_FORWARDED] += (verdict.n + segment_len - 1) // segment_len
        datagrams -= (verdict.n + segment_len - 1) // segment_len
        send_run(w, <const wh_path*>verdict.place.path, data, verdict.n, segment_len, s.ancillary[i].ecn)
    w.counters[DROP_FORWARD] += datagrams
    return True


cdef void send_run(wh_worker* w, const wh_path* path, uint8_t* data, size_t n, size_t segment_len, uint8_t ecn) noexcept nogil:
    cdef size_t at = 0, length
    if n > segment_len and segment_len <= w.device.sockets[path.socket].segment_limit:
        if send_datagrams(w.device, path, data, n, <uint16_t>segment_len, ecn, 0):
            w.counters[COUNT_TX_SENDS] += 1
            return
        if errno == EIO:
            w.device.sockets[path.socket].segment_limit = 0     # no checksums in hardware on the way
        elif errno == EMSGSIZE and n <= RUN_BYTES:
            w.device.sockets[path.socket].segment_limit = <uint32_t>segment_len - 1     # over the link's MTU
        elif errno != EMSGSIZE:     # a run that fitted one address family can be too long for the other
            w.counters[DROP_SEND] += (n + segment_len - 1) // segment_len
            return
    while at < n:
        length = min(segment_len, n - at)
        w.counters[COUNT_TX_SENDS if send_datagrams(w.device, path, data + at, length, 0, ecn, 0) else DROP_SEND] += 1
        at += length
