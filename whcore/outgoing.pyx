"""Outgoing packets, in the order of what happens to them: read, split, route, frame, seal, cut into runs, send.

A burst is all that waits in the TUN, over several reads: small packets of one flow then share a system call and a
trip through the stack (UDP_SEGMENT) as the segments of one large frame do.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from whcore.allowedips cimport ALLOWEDIPS_NONE
from whcore.device cimport (
    COUNT_DUPLICATED, COUNT_TUN_READS, COUNT_TX_DATA, COUNT_TX_SENDS, DROP_INNER, DROP_LOOP, DROP_NO_PEER,
    DROP_OFFLOAD, DROP_SEND, DROP_TOO_BIG, HEADROOM, MAX_DATAGRAM, PATHS_SPLIT, VNET_HEADER_LEN, peer_at, peer_check_at,
    peer_want_handshake, wh_path, wh_paths, wh_peer, wh_worker,
)
from whcore.forwarder cimport CHANNEL_HEADER_LEN, put_channel_header
from whcore.fragments cimport fragment_begin, fragment_plan, fragment_write
from whcore.inner cimport answer_too_big, flow_hash, inner_is_own, inner_length, inner_peer
from whcore.kernel cimport (
    EBADF, EBADFD, EIO, EMSGSIZE, EPOLL_CTL_DEL, MSG_DONTWAIT, epoll_ctl, epoll_event, errno, eventfd_write, iovec, mmsghdr,
    msghdr, readv, sendmmsg, wh_add_u64, wh_load_ptr, wh_load_u32, wh_now_ns, wh_store_u32,
)
from whcore.offload cimport link_header_off, packet_ecn, split_begin, split_len, split_plan, split_write, virtio_net_hdr
from whcore.peer_paths cimport peer_forget_source, peer_sends_twice
from whcore.sending cimport data_frame, peer_flush, peer_stage, source_was_refused
from whcore.sodium cimport randombytes_random
from whcore.tunnel cimport (
    DATA_HEADER_LEN, TAG_LEN, TRAFFIC_DATA, keypair, tunnel_claim, tunnel_rekey_after_send, tunnel_sent,
)
from whcore.udp cimport wh_udp_control
from whcore.worker cimport FRAME_ROOM, MAX_FRAMES, RUN_BYTES, RUN_SEGMENTS, frame, scratch


cdef struct burst:
    int n                           # frames so far
    size_t used                     # bytes of scratch.room taken
    int64_t now


cdef void outgoing(wh_worker* w) noexcept nogil:
    cdef scratch* s = <scratch*>w.scratch
    cdef burst b
    cdef ssize_t length
    b.n = 0
    b.used = 0
    b.now = wh_now_ns()
    # A frame of 64 kB splits into 128 segments of 512 bytes; smaller ones than that no host's TCP makes of it.
    while b.n <= MAX_FRAMES - 128 and b.used < FRAME_ROOM:
        length = read_frame(w, s)
        if length < 0:
            break
        take_frame(w, s, &b, <size_t>length)
    if b.n == 0:
        return
    w.aead.engine.run(w.aead.state, s.jobs, b.n, True)
    send_frames(w, s, b.n, False)
    send_frames(w, s, b.n, True)
    account(w, s, &b)


# --- read and split -------------------------------------------------------------------------------------------------

cdef ssize_t read_frame(wh_worker* w, scratch* s) noexcept nogil:
    """One frame of the TUN, its offload header apart. Negative: nothing waits."""
    cdef iovec vectors[3]
    cdef ssize_t length
    vectors[0].iov_base = s.tun_header
    vectors[0].iov_len = VNET_HEADER_LEN
    vectors[1].iov_base = s.link_header
    vectors[1].iov_len = w.link_len
    vectors[2].iov_base = s.tun_frame
    vectors[2].iov_len = MAX_DATAGRAM
    if w.vnet:
        length = readv(w.tun_fd, vectors, 3) - VNET_HEADER_LEN - w.link_len
        link_header_off(<virtio_net_hdr*>s.tun_header, w.link_len)
    else:
        memset(s.tun_header, 0, VNET_HEADER_LEN)
        length = readv(w.tun_fd, &vectors[2], 1)
    if length < 0:
        if errno == EBADFD or errno == EBADF:
            tun_gone(w)     # EAGAIN: drained; EIO: the interface is down
        return -1
    w.counters[COUNT_TUN_READS] += 1
    return length


cdef void tun_gone(wh_worker* w) noexcept nogil:
    cdef epoll_event unused
    epoll_ctl(w.epoll_fd, EPOLL_CTL_DEL, w.tun_fd, &unused)
    wh_store_u32(&w.device.tun_gone, 1)
    eventfd_write(w.device.event_fd, 1)


cdef void take_frame(wh_worker* w, scratch* s, burst* b, size_t length) noexcept nogil:
    """Route one frame and lay its segments out in the scratch memory, each with a nonce."""
    cdef split_plan plan
    cdef wh_peer* peer
    cdef wh_paths* paths
    cdef uint32_t slot
    cdef int segments
    if inner_length(s.tun_frame, length) == 0:
        w.counters[DROP_INNER] += 1
        return
    slot = inner_peer(w.device, s.tun_frame, False)
    if slot == ALLOWEDIPS_NONE:
        w.counters[DROP_NO_PEER] += 1
        return
    segments = split_begin(&plan, <const virtio_net_hdr*>s.tun_header, s.tun_frame, length)
    # Headers stand in every segment, so a small frame can be made to split into more than its own size.
    if segments <= 0 or b.n + segments > MAX_FRAMES or b.used + segments * packet_room(split_len(&plan, 0)) > sizeof(s.room):
        w.counters[DROP_OFFLOAD] += 1
        return
    peer = peer_at(w.device, slot)
    if wh_load_u32(&peer.staged):
        peer_flush(w, peer, b.now)
    paths = <wh_paths*>wh_load_ptr(&peer.paths)
    if paths != NULL and leads_back(peer, paths, s.tun_frame, length):
        w.counters[DROP_LOOP] += 1
    elif paths == NULL or split_len(&plan, 0) <= paths.inner_limit:
        add_segments(w, s, b, peer, paths, &plan, segments)
    elif not answer_too_big(w, paths.inner_limit, s.tun_frame, length, split_len(&plan, 0)):
        add_fragments(w, s, b, peer, paths, &plan, segments)


cdef inline bint leads_back(wh_peer* peer, const wh_paths* paths, const uint8_t* packet, size_t length) noexcept nogil:
    return inner_is_own(peer, &paths.at[0], packet, length) or (
        paths.n == 2 and inner_is_own(peer, &paths.at[1], packet, length)
    )


cdef inline size_t packet_room(size_t n) noexcept nogil:
    """What a packet of n bytes takes of the scratch memory."""
    return HEADROOM + ((n + 15) & ~<size_t>15) + TAG_LEN


cdef void add_segments(wh_worker* w, scratch* s, burst* b, wh_peer* peer, wh_paths* paths, split_plan* plan,
                       int segments) noexcept nogil:
    cdef keypair* kp = NULL
    cdef uint64_t counter = 0
    cdef uint8_t* packet
    cdef bint both, second
    cdef int i
    if paths != NULL and wh_load_u32(&peer.staged) == 0:
        kp = tunnel_claim(&peer.tunnel, <uint64_t>segments, &counter, b.now)
    if kp == NULL:
        stage_segments(w, s, peer, plan, segments, b)
        return
    second = paths.n == 2 and paths.mode == PATHS_SPLIT and flow_hash(s.tun_frame) & 1
    both = peer_sends_twice(w.device, peer, paths, second, True, b.now)
    for i in range(segments):
        packet = s.room + b.used + HEADROOM
        split_write(plan, i, packet)
        s.frames[b.n].peer = peer
        s.frames[b.n].kp = kp
        s.frames[b.n].paths = paths
        s.frames[b.n].counter = counter + <uint64_t>i
        s.frames[b.n].both = both
        s.frames[b.n].second = second
        finish_frame(w, s, b, packet, split_len(plan, i))


cdef void stage_segments(wh_worker* w, scratch* s, wh_peer* peer, split_plan* plan, int segments, burst* b) noexcept nogil:
    cdef uint8_t* packet = s.room + b.used + HEADROOM
    cdef int i
    for i in range(segments):
        split_write(plan, i, packet)
        peer_stage(w, peer, packet, split_len(plan, i), b.now)
    # A session may have come up since the look before: flushing finds out, or asks for one.
    peer_flush(w, peer, b.now)


cdef void add_fragments(wh_worker* w, scratch* s, burst* b, wh_peer* peer, wh_paths* paths, split_plan* plan,
                        int segments) noexcept nogil:
    """Segments longer than the path carries and that are to be fragmented. Seldom: each fragment is handled by
    itself."""
    cdef fragment_plan pieces
    cdef virtio_net_hdr no_offload
    cdef split_plan piece
    cdef uint8_t* whole = s.datagrams[0]        # of the other direction, whose turn it is not
    cdef int i, k, n
    cdef size_t length
    memset(&no_offload, 0, sizeof(no_offload))
    for i in range(segments):
        split_write(plan, i, whole)
        n = fragment_begin(&pieces, whole, paths.inner_limit, randombytes_random())
        if n == 0:
            w.counters[DROP_TOO_BIG] += 1
        for k in range(n):
            length = fragment_write(&pieces, k, s.tun_piece)
            if b.n == MAX_FRAMES or b.used + packet_room(length) > sizeof(s.room):
                w.counters[DROP_OFFLOAD] += 1
            elif split_begin(&piece, &no_offload, s.tun_piece, length) == 1:
                add_segments(w, s, b, peer, paths, &piece, 1)


# --- frame and seal -------------------------------------------------------------------------------------------------

cdef inline void finish_frame(wh_worker* w, scratch* s, burst* b, uint8_t* packet, size_t n) noexcept nogil:
    cdef frame* f = &s.frames[b.n]
    cdef size_t padded = data_frame(w.device, f.kp, f.counter, packet, n)
    f.data = packet - DATA_HEADER_LEN
    f.len = <uint32_t>(DATA_HEADER_LEN + padded + TAG_LEN)
    f.ecn = packet_ecn(packet)
    f.sent = 0
    s.jobs[b.n].src = s.jobs[b.n].dst = packet
    s.jobs[b.n].len = <uint32_t>padded
    s.jobs[b.n].key = f.kp.send_key
    s.jobs[b.n].counter = f.counter
    b.used += HEADROOM + padded + TAG_LEN
    b.n += 1


# --- runs and sends -------------------------------------------------------------------------------------------------

cdef inline const wh_path* path_of(const frame* f, bint copies) noexcept nogil:
    """The path a frame takes in this pass: originals first, then copies for the other path. NULL: none."""
    if copies and not f.both:
        return NULL
    return &f.paths.at[f.second ^ copies]


cdef void send_frames(wh_worker* w, scratch* s, int n, bint copies) noexcept nogil:
    """Cut frames into runs of one path, one ECN and one size (the last may be shorter), and send those."""
    cdef int i, vectors = 0, messages = 0, first = 0
    cdef const wh_path* path
    cdef const wh_path* run_path = NULL
    cdef size_t bytes = 0
    cdef bint open_run = False
    cdef frame* f
    cdef frame* head = NULL
    for i in range(n):
        f = &s.frames[i]
        path = path_of(f, copies)
        if path == NULL:
            continue
        if not (
            open_run and path == run_path and f.ecn == head.ecn and f.len <= head.len
            and vectors - first < RUN_SEGMENTS and bytes + f.len + CHANNEL_HEADER_LEN <= RUN_BYTES
            and f.len + CHANNEL_HEADER_LEN <= w.device.sockets[path.socket].segment_limit
        ):
            if vectors > first:
                close_run(w, s, messages, first, vectors, run_path, head)
                messages += 1
            first = vectors
            head = f
            run_path = path
            bytes = 0
        add_vector(s, vectors, i, path)
        bytes += s.vectors[vectors].iov_len
        vectors += 1
        open_run = f.len == head.len        # a shorter one ends its run
    if vectors > first:
        close_run(w, s, messages, first, vectors, run_path, head)
        messages += 1
    if messages:
        send_messages(w, s, messages, copies)


cdef inline void add_vector(scratch* s, int vector, int i, const wh_path* path) noexcept nogil:
    cdef uint8_t* data = s.frames[i].data
    cdef size_t n = s.frames[i].len
    if path.channel:
        data -= CHANNEL_HEADER_LEN
        n += CHANNEL_HEADER_LEN
        put_channel_header(data, path.channel)
    s.vectors[vector].iov_base = data
    s.vectors[vector].iov_len = n
    s.order[vector] = i


cdef inline void close_run(wh_worker* w, scratch* s, int message, int first, int last, const wh_path* path,
                           const frame* head) noexcept nogil:
    cdef msghdr* m = &s.messages[message].msg_hdr
    cdef uint16_t segment = <uint16_t>s.vectors[first].iov_len if last - first > 1 else 0
    m.msg_name = <void*>&path.address
    m.msg_namelen = path.address_len
    m.msg_iov = &s.vectors[first]
    m.msg_iovlen = last - first
    m.msg_flags = 0
    wh_udp_control(m, s.controls[message], w.device.sockets[path.socket].family, segment, head.ecn, &path.source)


cdef inline int socket_of(scratch* s, int message, bint copies) noexcept nogil:
    cdef frame* f = &s.frames[s.order[s.messages[message].msg_hdr.msg_iov - s.vectors]]
    return path_of(f, copies).socket


cdef void send_messages(wh_worker* w, scratch* s, int n, bint copies) noexcept nogil:
    """One sendmmsg for the messages that follow each other on one socket."""
    cdef int first = 0, last, sent, i, socket, fd
    while first < n:
        socket = socket_of(s, first, copies)
        last = first + 1
        while last < n and socket_of(s, last, copies) == socket:
            last += 1
        fd = w.device.sockets[socket].fd
        while first < last:
            sent = sendmmsg(fd, &s.messages[first], last - first, MSG_DONTWAIT)
            if sent <= 0:
                send_again(w, s, first, socket, copies)
                sent = 1
            else:
                for i in range(first, first + sent):
                    mark_sent(w, s, i)
            first += sent


cdef void send_again(wh_worker* w, scratch* s, int message, int socket, bint copies) noexcept nogil:
    """The kernel refused a message: mend what can be mended, and try it once more."""
    cdef mmsghdr* m = &s.messages[message]
    cdef frame* f = &s.frames[s.order[m.msg_hdr.msg_iov - s.vectors]]
    cdef const wh_path* path = path_of(f, copies)
    if m.msg_hdr.msg_iovlen > 1 and (errno == EIO or errno == EMSGSIZE):
        # EIO: the device on the way can do no checksums, so the kernel segments nothing for it. EMSGSIZE: it makes no
        # segments longer than the link's MTU, though it sends such datagrams in fragments.
        w.device.sockets[socket].segment_limit = 0 if errno == EIO else <uint32_t>m.msg_hdr.msg_iov.iov_len - 1
        send_singly(w, s, message, path)
        return
    if path.source.known and source_was_refused(errno):
        peer_forget_source(w.device, f.peer)
        wh_udp_control(&m.msg_hdr, s.controls[message], w.device.sockets[socket].family,
                       <uint16_t>m.msg_hdr.msg_iov.iov_len if m.msg_hdr.msg_iovlen > 1 else 0, f.ecn, NULL)
        if sendmmsg(w.device.sockets[socket].fd, m, 1, MSG_DONTWAIT) == 1:
            mark_sent(w, s, message)
            return
    w.counters[DROP_SEND] += m.msg_hdr.msg_iovlen


cdef void send_singly(wh_worker* w, scratch* s, int message, const wh_path* path) noexcept nogil:
    """Its message then stands for each of the run's datagrams in turn."""
    cdef mmsghdr* m = &s.messages[message]
    cdef size_t i, n = m.msg_hdr.msg_iovlen
    cdef frame* f = &s.frames[s.order[m.msg_hdr.msg_iov - s.vectors]]
    wh_udp_control(&m.msg_hdr, s.controls[message], w.device.sockets[path.socket].family, 0, f.ecn, &path.source)
    m.msg_hdr.msg_iovlen = 1
    for i in range(n):
        if sendmmsg(w.device.sockets[path.socket].fd, m, 1, MSG_DONTWAIT) == 1:
            mark_sent(w, s, message)
        else:
            w.counters[DROP_SEND] += 1
        m.msg_hdr.msg_iov += 1


cdef inline void mark_sent(wh_worker* w, scratch* s, int message) noexcept nogil:
    cdef msghdr* m = &s.messages[message].msg_hdr
    cdef size_t i
    cdef Py_ssize_t first = m.msg_iov - s.vectors
    w.counters[COUNT_TX_SENDS] += 1
    for i in range(m.msg_iovlen):
        s.frames[s.order[first + <Py_ssize_t>i]].sent += 1


cdef void account(wh_worker* w, scratch* s, burst* b) noexcept nogil:
    """Counters and timers, once for the frames of one peer that follow each other."""
    cdef int first = 0, last, copies
    cdef uint64_t bytes
    cdef frame* f
    cdef wh_peer* peer
    while first < b.n:
        peer = s.frames[first].peer
        last = first
        bytes = 0
        copies = 0
        while last < b.n and s.frames[last].peer == peer:
            f = &s.frames[last]
            copies += f.sent
            bytes += <uint64_t>f.sent * f.len
            if f.sent > 1:
                w.counters[COUNT_DUPLICATED] += 1
            last += 1
        w.counters[COUNT_TX_DATA] += copies
        wh_add_u64(&peer.tx_bytes, bytes)
        wh_add_u64(&peer.tx_packets, copies)
        peer_check_at(w.device, peer, tunnel_sent(&peer.tunnel, TRAFFIC_DATA, b.now))
        if tunnel_rekey_after_send(s.frames[last - 1].kp, b.now):
            peer_want_handshake(w.device, peer)
        first = last
