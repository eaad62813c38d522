"""Packet workers: the loop of each thread. What it does with packets is in outgoing.pyx and incoming.pyx.

A worker never takes the interpreter lock, and takes the control lock only to confirm a new session. Between two
epoll_wait calls it may hold pointers to anything it read without a lock; its epoch says so (see device.pxd).
"""

from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from whcore.aead cimport aead_context_free, aead_context_init
from whcore.cookie cimport rate_limiter_free, rate_limiter_init
from whcore.device cimport CONTROL_DATA, HANDSHAKE_DATA, ring_free, ring_init, wh_device, wh_worker
from whcore.errors cimport WH_E_MEMORY, WH_OK
from whcore.incoming cimport incoming
from whcore.kernel cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLEXCLUSIVE, EPOLLIN, MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE,
    MAP_PRIVATE, PROT_READ, PROT_WRITE, close, epoll_create1, epoll_ctl, epoll_event, epoll_wait, mmap, munmap,
    wh_fence, wh_load_u32, wh_load_u64, wh_pause_ns, wh_store_u64, wh_thread_start,
)
from whcore.outgoing cimport outgoing
from whcore.offload cimport LINK_HEADER_LEN
from whcore.sieve cimport budgets_init
from whcore.udp cimport wh_is_packet_socket, wh_tun_has_header, wh_tun_offloads

cdef enum:
    EVENTS = 16
    CONTROL_SLOTS = 256             # datagrams waiting for Python
    EVENT_SLOTS = 1024
    HANDSHAKE_SLOTS = 512
    COOKIE_SHARES = 1024            # senders told apart; each begins anew every 5 s at most (whitepaper 6.1)
    COOKIE_SHARE_PER_S = 20
    COOKIE_SHARE_BURST = 20
    WATCH_TUN = 1 << 16             # epoll tags; below it: a socket's number
    WATCH_STOP = 1 << 17

# Tuning. To be woken costs three times what a junk datagram does otherwise, so where nothing but junk came some more
# of it is waited for: half a round trip in a LAN, and only while there is junk alone.
cdef int64_t JUNK_PAUSE_NS = 100_000


cdef int worker_init(wh_worker* w, wh_device* dev, int number, int tun_fd) noexcept nogil:
    cdef void* region
    memset(w, 0, sizeof(wh_worker))
    w.device = dev
    w.number = number
    w.tun_fd = tun_fd
    w.vnet = tun_fd >= 0 and wh_tun_has_header(tun_fd)
    if w.vnet:
        w.tun_offloads = wh_tun_offloads(tun_fd)
        w.link_len = LINK_HEADER_LEN if wh_is_packet_socket(tun_fd) else 0
    w.epoch = UINT64_MAX
    budgets_init(&w.cookies, &w.inits, &w.knocks)
    w.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
    region = mmap(NULL, sizeof(scratch), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    w.scratch = NULL if region == MAP_FAILED else region
    if (
        w.epoll_fd < 0 or w.scratch == NULL
        or aead_context_init(&w.aead) != WH_OK
        or rate_limiter_init(&w.cookie_shares, COOKIE_SHARES, COOKIE_SHARE_PER_S, COOKIE_SHARE_BURST) != WH_OK
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
    aead_context_free(&w.aead)
    rate_limiter_free(&w.cookie_shares)
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
    w.useful = True
    while True:
        wh_store_u64(&w.epoch, UINT64_MAX)
        if not w.useful:
            wh_pause_ns(JUNK_PAUSE_NS)
        n = epoll_wait(w.epoll_fd, ready, EVENTS, -1)
        epoch = wh_load_u64(&w.device.epoch)
        wh_store_u64(&w.epoch, epoch)
        wh_fence()
        if wh_load_u32(&w.device.stopping):
            break
        w.useful = False
        for i in range(n):
            tag = ready[i].data.u64
            if tag == WATCH_TUN:
                w.useful = True
                outgoing(w)
            elif tag < WATCH_TUN:
                incoming(w, <int>tag)
    wh_store_u64(&w.epoch, UINT64_MAX)
    return NULL
