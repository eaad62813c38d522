"""Incoming datagrams, in the order of what happens to them: receive, classify, open, accept, coalesce, write."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from whcore.device cimport (
    COUNT_RX_CONTROL, COUNT_RX_DATA, COUNT_RX_RECEIVES, COUNT_TUN_WRITES, DROP_AUTH, DROP_ECN, DROP_EXPIRED, DROP_INDEX,
    DROP_INNER, DROP_LENGTH, DROP_NO_IPV6, DROP_REPLAY, DROP_SOURCE, DROP_TRUNCATED, DROP_TUN_WRITE, DROP_UNKNOWN,
    EVENT_HANDSHAKE, MAX_DATAGRAM, index_entry, index_find_again, peer_at, peer_check_at, peer_want_handshake, raise_event,
    retire_keypairs, wh_path, wh_paths, wh_peer, wh_worker,
)
from whcore.errors cimport WH_OK
from whcore.forwarder cimport CHANNEL_HEADER_LEN, CHANNEL_FROM_RELAY, channel_header
from whcore.forwarding cimport forward_run
from whcore.inner cimport carry_ecn, flow_hash, inner_length, inner_peer, unreachable6
from whcore.ip_packet cimport ICMP6_ERROR_MAX
from whcore.kernel cimport (
    MSG_CTRUNC, MSG_DONTWAIT, MSG_TRUNC, iovec, pthread_mutex_lock, pthread_mutex_unlock, recvmmsg,
    sockaddr_storage, wh_add_u64, wh_le32, wh_le64, wh_load_i64, wh_load_ptr, wh_now_ns, wh_spin_lock, wh_spin_unlock,
    wh_store_i64, wh_wall_ns, wh_wire_address, write, writev,
)
from whcore.offload cimport COALESCE_TCP, COALESCE_UDP, coalescer_add, coalescer_next, coalescer_reset, link_header_on
from whcore.peer_paths cimport path_fill, peer_seen_on
from whcore.queueing cimport queue_control, queue_handshake
from whcore.replay cimport replay_accept
from whcore.sending cimport peer_flush, peer_stage
from whcore.tunnel cimport (
    DATA_HEADER_LEN, DATA_OVERHEAD, MESSAGE_COOKIE, MESSAGE_DATA, MESSAGE_INITIATION, REJECT_AFTER_MESSAGES,
    TRAFFIC_DATA, TRAFFIC_KEEPALIVE, keypair, keypair_receivable, retired_keypairs, tunnel_confirm, tunnel_received,
    tunnel_rekey_after_receive,
)
from whcore.udp cimport TUN_F_TSO4, TUN_F_USO4, WH_CONTROL_LEN, wh_source, wh_udp_received
from whcore.worker cimport MAX_FRAMES, RECEIVES, received, scratch

# Tuning: a peer's packets that are told that this host has no IPv6, so many at once and then one each interval
# (RFC 4443, 2.4 (f)). Who opens many connections at once shall hear it of each.
cdef int64_t REFUSALS_AT_ONCE = 50
cdef int64_t REFUSAL_NS = 20_000_000


cdef void incoming(wh_worker* w, int socket) noexcept nogil:
    cdef scratch* s = <scratch*>w.scratch
    cdef int i, n, jobs = 0, fd = w.device.sockets[socket].fd
    cdef int64_t now
    if fd < 0:
        return
    n = receive(s, fd)
    if n <= 0:
        w.useful = True         # another worker was faster: no junk
        return
    w.counters[COUNT_RX_RECEIVES] += 1
    if n == RECEIVES:
        w.useful = True         # more may be waiting
    now = wh_now_ns()
    for i in range(n):
        jobs = take_datagram(w, s, i, jobs, socket, now)
    deliver(w, s, jobs, socket, now)


cdef int receive(scratch* s, int fd) noexcept nogil:
    cdef int i
    for i in range(RECEIVES):
        s.vectors[i].iov_base = &s.datagrams[i][0]
        s.vectors[i].iov_len = MAX_DATAGRAM
        s.messages[i].msg_hdr.msg_name = &s.sources[i]
        s.messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_storage)
        s.messages[i].msg_hdr.msg_iov = &s.vectors[i]
        s.messages[i].msg_hdr.msg_iovlen = 1
        s.messages[i].msg_hdr.msg_control = &s.controls[i][0]
        s.messages[i].msg_hdr.msg_controllen = WH_CONTROL_LEN
        s.messages[i].msg_hdr.msg_flags = 0
    return recvmmsg(fd, s.messages, RECEIVES, MSG_DONTWAIT, NULL)


# --- classify -------------------------------------------------------------------------------------------------------

cdef int take_datagram(wh_worker* w, scratch* s, int i, int jobs, int socket, int64_t now) noexcept nogil:
    """Send each segment of one receive where it belongs. Returns the number of data jobs so far."""
    cdef size_t n = s.messages[i].msg_len, at = 0, length, segment
    if s.messages[i].msg_hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC):
        w.counters[DROP_TRUNCATED] += 1
        return jobs
    wh_udp_received(&s.messages[i].msg_hdr, &s.ancillary[i])
    segment = s.ancillary[i].segment_len if s.ancillary[i].segment_len else n
    if n == 0:
        w.counters[DROP_LENGTH] += 1
    elif segment < n and forward_run(w, s, i, &s.datagrams[i][0], n, segment, socket, now):
        return jobs
    while at < n:
        length = min(segment, n - at)
        if jobs == MAX_FRAMES:
            deliver(w, s, jobs, socket, now)
            jobs = 0
        if classify(w, s, i, &s.datagrams[i][at], length, 0, jobs, socket, now):
            jobs += 1
        at += length
    return jobs


cdef bint classify(wh_worker* w, scratch* s, int i, uint8_t* data, size_t n, uint32_t channel, int job, int socket,
                   int64_t now) noexcept nogil:
    """One datagram, by its first bytes (docs/protocol.md section 1). True: it became data job number `job`."""
    cdef uint32_t kind
    if n < 4:
        w.counters[DROP_LENGTH] += 1
        return False
    kind = wh_le32(data)
    if kind == MESSAGE_DATA:
        return prepare_data(w, s, i, data, n, channel, job, now)
    if MESSAGE_INITIATION <= kind <= MESSAGE_COOKIE:
        queue_handshake(w, s, i, data, n, channel, socket, now)
    elif channel == 0 and channel_header(data, n, &channel):
        if channel & CHANNEL_FROM_RELAY and channel != CHANNEL_FROM_RELAY:
            return classify(w, s, i, data + CHANNEL_HEADER_LEN, n - CHANNEL_HEADER_LEN, channel & ~CHANNEL_FROM_RELAY,
                            job, socket, now)
        if not forward_run(w, s, i, data, n, n, socket, now):
            w.counters[DROP_UNKNOWN] += 1
    elif data[0] == 0xFF and data[1] == 0x02 and data[2] != 0x05 and data[3] == 0:
        w.counters[COUNT_RX_CONTROL] += 1
        queue_control(w, s, i, data, n, channel, socket, now)
    else:
        w.counters[DROP_UNKNOWN] += 1
    return False


cdef bint prepare_data(wh_worker* w, scratch* s, int i, uint8_t* data, size_t n, uint32_t channel, int job,
                       int64_t now) noexcept nogil:
    cdef index_entry* entry
    cdef keypair* kp
    if n < DATA_OVERHEAD:
        w.counters[DROP_LENGTH] += 1
        return False
    entry = index_find_again(w, wh_le32(data + 4))
    kp = <keypair*>wh_load_ptr(&entry.kp) if entry != NULL else NULL
    if kp == NULL or kp.local_index != wh_le32(data + 4):
        w.counters[DROP_INDEX] += 1
        return False
    if not keypair_receivable(kp, now):
        w.counters[DROP_EXPIRED] += 1
        return False
    w.useful = True
    s.jobs[job].src = s.jobs[job].dst = data + DATA_HEADER_LEN
    s.jobs[job].len = <uint32_t>(n - DATA_OVERHEAD)
    s.jobs[job].key = kp.recv_key
    s.jobs[job].counter = wh_le64(data + 8)
    s.arrivals[job].kp = kp
    s.arrivals[job].origin = i
    s.arrivals[job].channel = channel
    return True


# --- open and accept ------------------------------------------------------------------------------------------------

cdef void deliver(wh_worker* w, scratch* s, int jobs, int socket, int64_t now) noexcept nogil:
    cdef int first = 0, last, i, offloads = 0
    if jobs == 0:
        return
    if w.tun_offloads & TUN_F_TSO4:
        offloads |= COALESCE_TCP
    if w.tun_offloads & TUN_F_USO4:
        offloads |= COALESCE_UDP
    w.aead.engine.run(w.aead.state, s.jobs, jobs, False)
    coalescer_reset(&s.flows, offloads)
    while first < jobs:
        last = first + 1
        while last < jobs and same_way(&s.arrivals[first], &s.arrivals[last]):
            last += 1
        accept_run(w, s, first, last, socket, now)
        first = last
    write_groups(w, s)


cdef inline bint same_way(const received* a, const received* b) noexcept nogil:
    return a.kp == b.kp and a.origin == b.origin and a.channel == b.channel


cdef void accept_run(wh_worker* w, scratch* s, int first, int last, int socket, int64_t now) noexcept nogil:
    """Data messages of one keypair from one source: replay, confirmation, path and timers once for all of them, then
    each packet."""
    cdef keypair* kp = s.arrivals[first].kp
    cdef wh_peer* peer = peer_at(w.device, kp.peer_slot)
    cdef uint64_t bytes = 0, packets = 0, user_packets = 0
    cdef int i
    wh_spin_lock(&kp.replay_lock)
    for i in range(first, last):
        if s.jobs[i].result != WH_OK:
            w.counters[DROP_AUTH] += 1
        elif not replay_accept(&kp.replay, s.jobs[i].counter, REJECT_AFTER_MESSAGES):
            w.counters[DROP_REPLAY] += 1
            s.jobs[i].result = 1
        else:
            packets += 1
            bytes += s.jobs[i].len + DATA_OVERHEAD
            user_packets += s.jobs[i].len > 0
    wh_spin_unlock(&kp.replay_lock)
    if packets == 0:
        return
    if <keypair*>wh_load_ptr(&peer.tunnel.next) == kp:
        confirm_session(w, peer, kp, now)
    note_source(w, s, peer, &s.arrivals[first], socket, now)
    w.counters[COUNT_RX_DATA] += packets
    wh_add_u64(&peer.rx_bytes, bytes)
    wh_add_u64(&peer.rx_packets, user_packets)
    peer_check_at(w.device, peer, tunnel_received(&peer.tunnel, TRAFFIC_DATA if user_packets else TRAFFIC_KEEPALIVE, now))
    if tunnel_rekey_after_receive(&peer.tunnel, kp, now):
        peer_want_handshake(w.device, peer)
    for i in range(first, last):
        if s.jobs[i].result == WH_OK and s.jobs[i].len:
            accept_packet(w, s, peer, s.jobs[i].dst, s.jobs[i].len, s.ancillary[s.arrivals[i].origin].ecn, now)


cdef void confirm_session(wh_worker* w, wh_peer* peer, keypair* kp, int64_t now) noexcept nogil:
    cdef retired_keypairs old
    cdef bint confirmed
    old.n = 0
    pthread_mutex_lock(&w.device.control_lock)
    confirmed = tunnel_confirm(&peer.tunnel, kp, &old, wh_wall_ns())
    retire_keypairs(w.device, &old)
    pthread_mutex_unlock(&w.device.control_lock)
    if confirmed:
        raise_event(w, EVENT_HANDSHAKE, peer.tunnel.remote_static, NULL)
        peer_flush(w, peer, now)


cdef void note_source(wh_worker* w, scratch* s, wh_peer* peer, const received* arrival, int socket, int64_t now) noexcept nogil:
    cdef wh_path path
    cdef uint8_t remote[18]
    cdef const wh_source* source = &s.ancillary[arrival.origin].source
    wh_wire_address(remote, &s.sources[arrival.origin])
    if path_fill(w.device, &path, socket, remote, arrival.channel, source.ifindex) == WH_OK:
        path.source = source[0]
        peer_seen_on(w, peer, &path, now)


cdef inline void accept_packet(wh_worker* w, scratch* s, wh_peer* peer, uint8_t* packet, size_t n, uint8_t ecn,
                               int64_t now) noexcept nogil:
    """Crypto-routing and congestion marks, then on to the flow it belongs to."""
    cdef size_t total = inner_length(packet, n)
    if total == 0:
        w.counters[DROP_INNER] += 1
    elif inner_peer(w.device, packet, True) != peer.slot:
        w.counters[DROP_SOURCE] += 1
    elif ecn and not carry_ecn(packet, ecn):
        w.counters[DROP_ECN] += 1
    elif w.device.without_ipv6 and packet[0] >> 4 == 6:
        refuse_ipv6(w, peer, packet, total, now)
    elif not coalescer_add(&s.flows, packet, total):
        write_groups(w, s)
        coalescer_add(&s.flows, packet, total)


cdef void refuse_ipv6(wh_worker* w, wh_peer* peer, const uint8_t* packet, size_t n, int64_t now) noexcept nogil:
    """Tell the sender, whose program would wait otherwise, that this host has no IPv6."""
    cdef uint8_t reply[ICMP6_ERROR_MAX]
    cdef wh_paths* paths = <wh_paths*>wh_load_ptr(&peer.paths)
    cdef int64_t used_until = max(now, wh_load_i64(&peer.refusals_until))
    cdef size_t length
    w.counters[DROP_NO_IPV6] += 1
    if paths == NULL or used_until - now > (REFUSALS_AT_ONCE - 1) * REFUSAL_NS:
        return
    length = unreachable6(reply, min(<size_t>ICMP6_ERROR_MAX, <size_t>paths.inner_limit), packet, n)
    if length:
        wh_store_i64(&peer.refusals_until, used_until + REFUSAL_NS)
        peer_stage(w, peer, reply, length, now)
        peer_flush(w, peer, now)


# --- write ----------------------------------------------------------------------------------------------------------

cdef void write_groups(wh_worker* w, scratch* s) noexcept nogil:
    cdef iovec* vectors
    cdef size_t total = 0
    cdef int n = coalescer_next(&s.flows, &vectors, &total)
    cdef int fd
    while n:
        fd = queue_of(w, <const uint8_t*>vectors[1].iov_base)
        w.counters[COUNT_TUN_WRITES] += 1
        if w.link_len:
            link_header_on(vectors)
        # Without offloads every group is one packet, and the TUN expects no header before it.
        if (writev(fd, vectors, n) if w.vnet else writev(fd, vectors + 1, n - 1)) < 0:
            w.counters[DROP_TUN_WRITE] += 1
        n = coalescer_next(&s.flows, &vectors, &total)
    coalescer_reset(&s.flows, s.flows.offloads)


cdef inline int queue_of(const wh_worker* w, const uint8_t* packet) noexcept nogil:
    """The TUN queue of a flow, the same for both directions: the kernel steers a flow's replies to the queue that
    last wrote it, so writing it elsewhere would reorder it."""
    if w.device.worker_count == 1:
        return w.tun_fd
    return w.device.workers[flow_hash(packet) % <uint32_t>w.device.worker_count].tun_fd
