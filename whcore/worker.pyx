"""Packet workers. The functions stand in the order in which a packet meets them: outgoing, then incoming.

A worker never takes the interpreter lock, and takes the control lock only to confirm a new session. Between two
epoll_wait calls it may hold pointers to anything it read without a lock; its epoch says so (see device.pxd).
"""

from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from whcore.aead cimport aead_default, aead_job
from whcore.allowedips cimport ALLOWEDIPS_NONE, allowedips_lookup
from whcore.device cimport (
    CONTROL_DATA, COUNT_RX_CONTROL, COUNT_RX_DATA, COUNT_TX_DATA, COUNTERS, DROP_AUTH, DROP_EXPIRED, DROP_INDEX,
    DROP_INNER, DROP_LENGTH, DROP_NO_PEER, DROP_QUEUE_FULL, DROP_REPLAY, DROP_SEND, DROP_SOURCE, DROP_TUN_WRITE,
    DROP_UNKNOWN, EVENT_HANDSHAKE, EVENT_NEW_PATH, EVENT_TUN_GONE, HANDSHAKE_DATA, HEADROOM, MAX_PACKET, PACKET_BUFFER,
    data_frame, index_entry, index_find, path_new, peer_at, peer_check_at, peer_flush, peer_set_path, peer_stage,
    peer_want_handshake, raise_event, record, retire_keypairs, ring, ring_free, ring_init, ring_publish, ring_reserve,
    wh_device, wh_path, wh_peer, wh_worker,
)
from whcore.errors cimport WH_E_MEMORY, WH_OK
from whcore.kernel cimport (
    EAGAIN, EBADF, EBADFD, EINTR, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLEXCLUSIVE, EPOLLIN, MAP_ANONYMOUS,
    MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, MSG_DONTWAIT, MSG_TRUNC, PROT_READ, PROT_WRITE, close, epoll_create1,
    epoll_ctl, epoll_event, epoll_wait, errno, eventfd_write, iovec, mmap, mmsghdr, munmap, pthread_mutex_lock,
    pthread_mutex_unlock, read, recvmmsg, sendmmsg, sockaddr_storage, wh_add_u64, wh_fence, wh_load_ptr, wh_load_u32,
    wh_load_u64, wh_le32, wh_le64, wh_now_ns, wh_spin_lock, wh_spin_unlock, wh_store_u64, wh_thread_start,
    wh_wall_ns, wh_wire_address, write,
)
from whcore.replay cimport replay_accept
from whcore.tunnel cimport (
    DATA_HEADER_LEN, DATA_OVERHEAD, MESSAGE_COOKIE, MESSAGE_DATA, MESSAGE_INITIATION, TAG_LEN, TRAFFIC_DATA,
    TRAFFIC_KEEPALIVE, keypair, keypair_receivable, retired_keypairs, tunnel_claim, tunnel_confirm, tunnel_received,
    tunnel_rekey_after_receive, tunnel_rekey_after_send, tunnel_sent,
)

cdef enum:
    BATCH = 64                      # packets taken per read burst; more adds latency, not throughput
    EVENTS = 16
    CONTROL_SLOTS = 256             # datagrams waiting for Python
    EVENT_SLOTS = 1024
    HANDSHAKE_SLOTS = 512
    WATCH_TUN = 1 << 16             # epoll tags; below it: a socket's number
    WATCH_STOP = 1 << 17

cdef uint64_t REJECT_AFTER_MESSAGES = <uint64_t>-1 - ((<uint64_t>1) << 13)
cdef int64_t NEW_PATH_INTERVAL = 250_000_000    # ns between events for one unchanged off-path source

cdef struct scratch:
    uint8_t buffers[BATCH][PACKET_BUFFER]
    aead_job jobs[BATCH]
    wh_peer* peers[BATCH]
    keypair* keys[BATCH]
    uint64_t counters[BATCH]
    wh_path* paths[BATCH]
    uint32_t lengths[BATCH]         # of the plaintext read, or the datagram received
    int origins[BATCH]              # which buffer a job is of
    mmsghdr messages[BATCH]
    iovec vectors[BATCH]
    sockaddr_storage sources[BATCH]


# --- life -----------------------------------------------------------------------------------------------------------

cdef int worker_init(wh_worker* w, wh_device* dev, int number, int tun_fd) noexcept nogil:
    cdef void* region
    memset(w, 0, sizeof(wh_worker))
    w.device = dev
    w.number = number
    w.tun_fd = tun_fd
    w.epoch = UINT64_MAX
    w.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
    region = mmap(NULL, sizeof(scratch), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    w.scratch = NULL if region == MAP_FAILED else region
    if (
        w.epoll_fd < 0 or w.scratch == NULL
        or ring_init(&w.handshakes, HANDSHAKE_SLOTS, HANDSHAKE_DATA) != WH_OK
        or ring_init(&w.controls, CONTROL_SLOTS, CONTROL_DATA) != WH_OK
        or ring_init(&w.events, EVENT_SLOTS, 0) != WH_OK
    ):
        worker_free(w)
        return WH_E_MEMORY
    watch(w, dev.stop_fd, WATCH_STOP, EPOLLIN)
    if tun_fd >= 0:
        watch(w, tun_fd, WATCH_TUN, EPOLLIN)
    return WH_OK


cdef int worker_start(wh_worker* w) noexcept nogil:
    cdef int rc = wh_thread_start(&w.thread, worker_main, w, "wh-packets")
    if rc == 0:
        w.running = 1
    return rc


cdef void worker_free(wh_worker* w) noexcept nogil:
    if w.scratch != NULL:
        munmap(w.scratch, sizeof(scratch))
        w.scratch = NULL
    if w.epoll_fd >= 0:
        close(w.epoll_fd)
        w.epoll_fd = -1
    ring_free(&w.handshakes)
    ring_free(&w.controls)
    ring_free(&w.events)


cdef int watch(wh_worker* w, int fd, uint64_t tag, uint32_t events) noexcept nogil:
    cdef epoll_event interest
    interest.events = events
    interest.data.u64 = tag
    return epoll_ctl(w.epoll_fd, EPOLL_CTL_ADD, fd, &interest)


cdef int worker_watch(wh_worker* w, int socket) noexcept nogil:
    return watch(w, w.device.sockets[socket].fd, socket, EPOLLIN | EPOLLEXCLUSIVE)


cdef void worker_unwatch(wh_worker* w, int socket) noexcept nogil:
    cdef epoll_event unused
    epoll_ctl(w.epoll_fd, EPOLL_CTL_DEL, w.device.sockets[socket].fd, &unused)


cdef void* worker_main(void* argument) noexcept nogil:
    cdef wh_worker* w = <wh_worker*>argument
    cdef epoll_event ready[EVENTS]
    cdef int n, i
    cdef uint64_t tag, epoch
    while True:
        wh_store_u64(&w.epoch, UINT64_MAX)
        n = epoll_wait(w.epoll_fd, ready, EVENTS, -1)
        epoch = wh_load_u64(&w.device.epoch)
        wh_store_u64(&w.epoch, epoch)
        wh_fence()
        if wh_load_u32(&w.device.stopping):
            break
        for i in range(n):
            tag = ready[i].data.u64
            if tag == WATCH_TUN:
                outgoing(w)
            elif tag < WATCH_TUN:
                incoming(w, <int>tag)
    wh_store_u64(&w.epoch, UINT64_MAX)
    return NULL


# --- outgoing: TUN -> peer -> seal -> UDP ------------------------------------------------------------------------------

cdef void outgoing(wh_worker* w) noexcept nogil:
    cdef scratch* s = <scratch*>w.scratch
    cdef int64_t now = wh_now_ns()
    cdef int n = 0, reads
    cdef ssize_t length
    for reads in range(BATCH):
        length = read(w.tun_fd, &s.buffers[n][HEADROOM], MAX_PACKET)
        if length < 0:
            if errno == EBADFD or errno == EBADF:
                tun_gone(w)
            break       # EAGAIN: drained; EIO: the interface is down
        if choose_route(w, s, n, <size_t>length, now):
            n += 1
    if n:
        seal_batch(w, s, n)
        send_batch(w, s, n, now)


cdef void tun_gone(wh_worker* w) noexcept nogil:
    cdef epoll_event unused
    epoll_ctl(w.epoll_fd, EPOLL_CTL_DEL, w.tun_fd, &unused)
    raise_event(w, EVENT_TUN_GONE, NULL, NULL)


cdef inline size_t inner_length(const uint8_t* packet, size_t n) noexcept nogil:
    """Total length that the IP header states, 0 where there is no such header or it states more than n bytes."""
    cdef size_t total = 0
    if n >= 20 and packet[0] >> 4 == 4:
        total = <size_t>packet[2] << 8 | packet[3]
        if total < 20:
            return 0
    elif n >= 40 and packet[0] >> 4 == 6:
        total = 40 + (<size_t>packet[4] << 8 | packet[5])
    return total if total <= n else 0


cdef inline uint32_t inner_peer(const wh_device* dev, const uint8_t* packet, bint source) noexcept nogil:
    if packet[0] >> 4 == 4:
        return allowedips_lookup(&dev.allowed, packet + (12 if source else 16), 32)
    return allowedips_lookup(&dev.allowed, packet + (8 if source else 24), 128)


cdef bint choose_route(wh_worker* w, scratch* s, int n, size_t length, int64_t now) noexcept nogil:
    """Give buffer n its peer, keypair, nonce and path. False: staged or dropped."""
    cdef uint8_t* packet = &s.buffers[n][HEADROOM]
    cdef wh_peer* peer
    cdef uint32_t slot
    if inner_length(packet, length) == 0:
        w.counters[DROP_INNER] += 1
        return False
    slot = inner_peer(w.device, packet, False)
    if slot == ALLOWEDIPS_NONE:
        w.counters[DROP_NO_PEER] += 1
        return False
    peer = peer_at(w.device, slot)
    if wh_load_u32(&peer.staged):
        peer_flush(w, peer, now)
    s.paths[n] = <wh_path*>wh_load_ptr(&peer.path)
    s.keys[n] = NULL
    if s.paths[n] != NULL and wh_load_u32(&peer.staged) == 0:
        s.keys[n] = tunnel_claim(&peer.tunnel, &s.counters[n], now)
    if s.keys[n] == NULL:
        peer_stage(w, peer, packet, length, now)
        # A session may have come up since the look above: flushing finds out, or asks for one.
        peer_flush(w, peer, now)
        return False
    s.peers[n] = peer
    s.lengths[n] = <uint32_t>length
    return True


cdef void seal_batch(wh_worker* w, scratch* s, int n) noexcept nogil:
    cdef int i
    cdef uint8_t* packet
    for i in range(n):
        packet = &s.buffers[i][HEADROOM]
        s.jobs[i].len = <uint32_t>data_frame(w.device, s.keys[i], s.counters[i], packet, s.lengths[i])
        s.jobs[i].src = s.jobs[i].dst = packet
        s.jobs[i].key = s.keys[i].send_key
        s.jobs[i].counter = s.counters[i]
        s.vectors[i].iov_base = packet - DATA_HEADER_LEN
        s.vectors[i].iov_len = DATA_HEADER_LEN + s.jobs[i].len + TAG_LEN
        s.messages[i].msg_hdr.msg_name = &s.paths[i].address
        s.messages[i].msg_hdr.msg_namelen = s.paths[i].address_len
        s.messages[i].msg_hdr.msg_iov = &s.vectors[i]
        s.messages[i].msg_hdr.msg_iovlen = 1
        s.messages[i].msg_hdr.msg_control = NULL
        s.messages[i].msg_hdr.msg_controllen = 0
        s.messages[i].msg_hdr.msg_flags = 0
    aead_default().seal(s.jobs, n)


cdef void send_batch(wh_worker* w, scratch* s, int n, int64_t now) noexcept nogil:
    """One sendmmsg for each run of messages on one socket."""
    cdef int first = 0, last, i, fd, sent
    while first < n:
        last = first + 1
        while last < n and s.paths[last].socket == s.paths[first].socket:
            last += 1
        fd = w.device.sockets[s.paths[first].socket].fd
        while first < last:
            sent = sendmmsg(fd, &s.messages[first], last - first, MSG_DONTWAIT)
            if sent <= 0:       # the first of them was refused: it is lost, the others are tried
                w.counters[DROP_SEND] += 1
                account_sent(w, s, first, now, False)
                sent = 1
            else:
                for i in range(first, first + sent):
                    account_sent(w, s, i, now, True)
            first += sent


cdef void account_sent(wh_worker* w, scratch* s, int i, int64_t now, bint sent) noexcept nogil:
    cdef wh_peer* peer = s.peers[i]
    if sent:
        w.counters[COUNT_TX_DATA] += 1
        wh_add_u64(&peer.tx_bytes, s.vectors[i].iov_len)
        wh_add_u64(&peer.tx_packets, 1)
    peer_check_at(w.device, peer, tunnel_sent(&peer.tunnel, TRAFFIC_DATA, now))
    if tunnel_rekey_after_send(s.keys[i], now):
        peer_want_handshake(w.device, peer)


# --- incoming: UDP -> classify -> open -> TUN --------------------------------------------------------------------------

cdef void incoming(wh_worker* w, int socket) noexcept nogil:
    cdef scratch* s = <scratch*>w.scratch
    cdef int i, n, jobs = 0, fd = w.device.sockets[socket].fd
    cdef int64_t now
    if fd < 0:
        return
    for i in range(BATCH):
        s.vectors[i].iov_base = &s.buffers[i][0]
        s.vectors[i].iov_len = PACKET_BUFFER
        s.messages[i].msg_hdr.msg_name = &s.sources[i]
        s.messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_storage)
        s.messages[i].msg_hdr.msg_iov = &s.vectors[i]
        s.messages[i].msg_hdr.msg_iovlen = 1
        s.messages[i].msg_hdr.msg_control = NULL
        s.messages[i].msg_hdr.msg_controllen = 0
        s.messages[i].msg_hdr.msg_flags = 0
    n = recvmmsg(fd, s.messages, BATCH, MSG_DONTWAIT, NULL)
    if n <= 0:
        return
    now = wh_now_ns()
    for i in range(n):
        s.lengths[i] = s.messages[i].msg_len
        if classify(w, s, i, jobs, socket, now):
            jobs += 1
    if jobs:
        aead_default().open(s.jobs, jobs)
        for i in range(jobs):
            accept(w, s, i, socket, now)


cdef bint classify(wh_worker* w, scratch* s, int i, int job, int socket, int64_t now) noexcept nogil:
    """Send datagram i where it belongs. True: it became data job number `job`."""
    cdef uint8_t* data = &s.buffers[i][0]
    cdef size_t n = s.lengths[i]
    cdef uint32_t kind
    if n < 4 or s.messages[i].msg_hdr.msg_flags & MSG_TRUNC:
        w.counters[DROP_LENGTH] += 1
        return False
    kind = wh_le32(data)
    if kind == MESSAGE_DATA:
        return prepare_data(w, s, i, job, now)
    if MESSAGE_INITIATION <= kind <= MESSAGE_COOKIE:
        queue(w, &w.handshakes, s, i, socket, HANDSHAKE_DATA, w.device.kick_fd)
    elif data[0] == 0xFF and data[1] == 0x02 and data[3] == 0:
        w.counters[COUNT_RX_CONTROL] += 1
        queue(w, &w.controls, s, i, socket, CONTROL_DATA, w.device.event_fd)
    else:
        w.counters[DROP_UNKNOWN] += 1
    return False


cdef void queue(wh_worker* w, ring* r, scratch* s, int i, int socket, size_t limit, int wake_fd) noexcept nogil:
    cdef record* slot
    if s.lengths[i] > limit:
        w.counters[DROP_LENGTH] += 1
        return
    slot = ring_reserve(r)
    if slot == NULL:
        w.counters[DROP_QUEUE_FULL] += 1
        return
    slot.kind = 0
    slot.len = s.lengths[i]
    slot.socket = socket
    wh_wire_address(slot.remote, &s.sources[i])
    memcpy(slot.data, &s.buffers[i][0], s.lengths[i])
    if ring_publish(r):
        eventfd_write(wake_fd, 1)


cdef bint prepare_data(wh_worker* w, scratch* s, int i, int job, int64_t now) noexcept nogil:
    cdef uint8_t* data = &s.buffers[i][0]
    cdef index_entry* entry
    cdef keypair* kp
    if s.lengths[i] < DATA_OVERHEAD:
        w.counters[DROP_LENGTH] += 1
        return False
    entry = index_find(w.device, wh_le32(data + 4))
    kp = <keypair*>wh_load_ptr(&entry.kp) if entry != NULL else NULL
    if kp == NULL or kp.local_index != wh_le32(data + 4):
        w.counters[DROP_INDEX] += 1
        return False
    if not keypair_receivable(kp, now):
        w.counters[DROP_EXPIRED] += 1
        return False
    s.jobs[job].src = s.jobs[job].dst = data + DATA_HEADER_LEN
    s.jobs[job].len = s.lengths[i] - DATA_OVERHEAD
    s.jobs[job].key = kp.recv_key
    s.jobs[job].counter = wh_le64(data + 8)
    s.keys[job] = kp
    s.origins[job] = i
    return True


cdef void accept(wh_worker* w, scratch* s, int job, int socket, int64_t now) noexcept nogil:
    """What was opened: replay, confirmation, path, timers, crypto-routing, delivery."""
    cdef keypair* kp = s.keys[job]
    cdef wh_peer* peer = peer_at(w.device, kp.peer_slot)
    cdef size_t n = s.jobs[job].len, total
    cdef uint8_t* packet = s.jobs[job].dst
    cdef bint fresh
    if s.jobs[job].result != WH_OK:
        w.counters[DROP_AUTH] += 1
        return
    wh_spin_lock(&kp.replay_lock)
    fresh = replay_accept(&kp.replay, s.jobs[job].counter, REJECT_AFTER_MESSAGES)
    wh_spin_unlock(&kp.replay_lock)
    if not fresh:
        w.counters[DROP_REPLAY] += 1
        return
    if <keypair*>wh_load_ptr(&peer.tunnel.next) == kp:
        confirm_session(w, peer, kp, now)
    note_source(w, peer, &s.sources[s.origins[job]], socket, now)
    w.counters[COUNT_RX_DATA] += 1
    wh_add_u64(&peer.rx_bytes, n + DATA_OVERHEAD)
    wh_add_u64(&peer.rx_packets, 1)
    peer_check_at(w.device, peer, tunnel_received(&peer.tunnel, TRAFFIC_DATA if n else TRAFFIC_KEEPALIVE, now))
    if tunnel_rekey_after_receive(&peer.tunnel, kp, now):
        peer_want_handshake(w.device, peer)
    if n == 0:
        return
    total = inner_length(packet, n)
    if total == 0:
        w.counters[DROP_INNER] += 1
    elif inner_peer(w.device, packet, True) != peer.slot:
        w.counters[DROP_SOURCE] += 1
    elif write(queue_of(w, packet), packet, total) != <ssize_t>total:
        w.counters[DROP_TUN_WRITE] += 1


cdef inline int queue_of(const wh_worker* w, const uint8_t* packet) noexcept nogil:
    """The TUN queue of a flow, the same for both directions: the kernel steers a flow's replies to the queue that
    last wrote it, so writing it elsewhere would reorder it."""
    cdef const wh_device* dev = w.device
    cdef uint32_t mixed = 0
    cdef int i, first = 12 if packet[0] >> 4 == 4 else 8, last = 20 if packet[0] >> 4 == 4 else 40
    if dev.worker_count == 1:
        return w.tun_fd
    for i in range(first, last, 4):
        mixed ^= wh_le32(packet + i)
    mixed *= <uint32_t>0x9E3779B1
    return dev.workers[(mixed >> 16) % <uint32_t>dev.worker_count].tun_fd


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


cdef void note_source(wh_worker* w, wh_peer* peer, const sockaddr_storage* source, int socket, int64_t now) noexcept nogil:
    """An authenticated packet came from somewhere: plain peers are answered there from now on (whitepaper 6.5);
    for managed ones the engine hears of it and decides."""
    cdef wh_path* path = <wh_path*>wh_load_ptr(&peer.path)
    cdef wh_path* seen
    cdef uint8_t remote[18]
    wh_wire_address(remote, source)
    if path != NULL and path.socket == socket and memcmp(path.remote, remote, 18) == 0:
        return
    if peer.managed and now - peer.seen_at < NEW_PATH_INTERVAL and memcmp(peer.seen_remote, remote, 18) == 0:
        return
    seen = path_new(w.device, socket, remote)
    if seen == NULL:
        return
    if not peer.managed:
        peer_set_path(w.device, peer, seen)
        return
    wh_spin_lock(&peer.seen_lock)
    peer.seen_at = now
    memcpy(peer.seen_remote, remote, 18)
    wh_spin_unlock(&peer.seen_lock)
    raise_event(w, EVENT_NEW_PATH, peer.tunnel.remote_static, seen)
    free(seen)
