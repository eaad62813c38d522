"""Handshake messages and timers of all peers, on one thread beside the packet workers.

Handshakes wait in bounded rings behind data, never before it: a flood of them costs handshakes, not traffic
(whitepaper 5.3). Each message and each peer's timers are handled under the control lock, taken anew every time.
"""

from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from whcore.arena cimport arena_alloc, arena_free
from whcore.cookie cimport (
    COOKIE_SOURCE_LEN, cookie_consume, cookie_is_fresh, cookie_source, proved_limiter_allow,
)
from whcore.device cimport (
    COUNT_RX_HANDSHAKE, COUNT_TX_HANDSHAKE, DROP_HANDSHAKE, DROP_INDEX, DROP_LENGTH,
    DROP_SEND, DROP_STAGE_OLD, EVENT_HANDSHAKE, EVENT_HANDSHAKE_FAILED, EVENT_PATH_SILENT, EVENT_PATH_WANTED,
    STAGE_LIFETIME, index_bind, index_claim, index_entry, index_find, index_release, peer_at, peer_check_at, peer_find,
    raise_event, reclaim, record, retire_keypairs, ring, ring_free, ring_front, ring_init, ring_pop, staged_packet,
    wh_device, wh_path, wh_paths, wh_peer, wh_worker,
)
from whcore.forwarder cimport CHANNEL_HEADER_LEN
from whcore.errors cimport WH_E_MEMORY, WH_OK
from whcore.kernel cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, close, epoll_create1, epoll_ctl, epoll_event, epoll_wait, eventfd_read,
    pthread_mutex_lock, pthread_mutex_unlock, wh_add_u64, wh_exchange_u32, wh_fence, wh_le32, wh_load_i64, wh_load_u32,
    wh_load_u64, wh_now_ns, wh_spin_lock, wh_spin_unlock, wh_store_i64, wh_thread_start, wh_wall_ns,
)
from whcore.noise cimport noise_handshake, noise_read_initiation_static, noise_wipe
from whcore.peer_paths cimport path_fill, peer_forget_source, peer_seen_on, watches_silence
from whcore.queueing cimport QUEUED_PROVED
from whcore.sending cimport peer_flush, peer_send_keepalive, send_on_path, send_to_peer
from whcore.tunnel cimport (
    ACTION_GIVE_UP, ACTION_INITIATE, ACTION_KEEPALIVE, ACTION_ZERO, COOKIE_LEN, INITIATION_LEN, MESSAGE_COOKIE,
    MESSAGE_INITIATION, MESSAGE_RESPONSE, RESPONSE_LEN, TRAFFIC_HANDSHAKE, keypair, retired_keypairs,
    tunnel_answer_initiation, tunnel_consume_response, tunnel_expire, tunnel_initiate, tunnel_initiation_sent,
    tunnel_may_initiate, tunnel_received, tunnel_sent, tunnel_zero,
)

cdef int64_t SECOND = 1_000_000_000
cdef int64_t REKEY_TIMEOUT = 5 * SECOND
cdef int64_t LOADED_FOR = SECOND            # under load until this long after a ring was last an eighth full
cdef int64_t PATH_WANTED_INTERVAL = SECOND
cdef int RING_BURST = 64                    # messages of one worker taken before timers get their turn
cdef uint32_t EVENT_SLOTS = 1024


# --- life -----------------------------------------------------------------------------------------------------------

cdef int handshaker_init(wh_device* dev) noexcept nogil:
    cdef wh_worker* w = &dev.timer
    cdef epoll_event interest
    memset(w, 0, sizeof(wh_worker))
    w.device = dev
    w.number = -1
    w.tun_fd = -1
    w.epoch = UINT64_MAX
    w.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
    if w.epoll_fd < 0 or ring_init(&w.events, EVENT_SLOTS, 0) != WH_OK:
        handshaker_free(dev)
        return WH_E_MEMORY
    interest.events = EPOLLIN
    interest.data.u64 = 0
    epoll_ctl(w.epoll_fd, EPOLL_CTL_ADD, dev.kick_fd, &interest)
    return WH_OK


cdef int handshaker_start(wh_device* dev) noexcept nogil:
    cdef int rc = wh_thread_start(&dev.timer.thread, handshaker_main, dev, "wh-handshakes")
    if rc == 0:
        dev.timer.running = 1
    return rc


cdef void handshaker_free(wh_device* dev) noexcept nogil:
    if dev.timer.epoll_fd >= 0:
        close(dev.timer.epoll_fd)
        dev.timer.epoll_fd = -1
    ring_free(&dev.timer.events)


cdef void* handshaker_main(void* argument) noexcept nogil:
    cdef wh_device* dev = <wh_device*>argument
    cdef epoll_event ready[1]
    cdef uint64_t unused
    cdef int64_t now, next_at
    cdef bint more
    while not wh_load_u32(&dev.stopping):
        # Until the scan below has seen every deadline, whoever arms one must wake us.
        wh_store_i64(&dev.sleep_until, INT64_MAX)
        wh_fence()
        more = drain_rings(dev)
        now = wh_now_ns()
        next_at = expire_timers(dev, now)
        pthread_mutex_lock(&dev.control_lock)
        reclaim(dev, False)
        pthread_mutex_unlock(&dev.control_lock)
        if more:
            continue
        wh_store_i64(&dev.sleep_until, next_at)
        wh_fence()
        epoll_wait(dev.timer.epoll_fd, ready, 1, timeout_ms(next_at - now))
        eventfd_read(dev.kick_fd, &unused)
    return NULL


cdef inline int timeout_ms(int64_t ns) noexcept nogil:
    """Rounded up, so that the deadline has passed on waking; an hour at most."""
    if ns > 3600 * SECOND:
        return 3_600_000
    return 0 if ns <= 0 else <int>((ns + 999_999) // 1_000_000)


# --- timers ---------------------------------------------------------------------------------------------------------

cdef int64_t expire_timers(wh_device* dev, int64_t now) noexcept nogil:
    cdef uint32_t slot
    cdef int64_t first = INT64_MAX, at
    for slot in range(dev.peers.used_high):
        if wh_load_i64(&dev.next_check[slot]) <= now:
            pthread_mutex_lock(&dev.control_lock)
            check_peer(dev, peer_at(dev, slot), slot, now)
            pthread_mutex_unlock(&dev.control_lock)
        at = wh_load_i64(&dev.next_check[slot])
        first = min(first, at)
    return first


cdef void check_peer(wh_device* dev, wh_peer* peer, uint32_t slot, int64_t now) noexcept nogil:
    cdef int64_t next_at = INT64_MAX
    cdef int actions
    cdef bint wanted
    wh_store_i64(&dev.next_check[slot], INT64_MAX)
    wh_fence()
    if not wh_load_u32(&peer.live):
        return
    wanted = wh_exchange_u32(&peer.handshake_wanted, 0)
    actions = tunnel_expire(&peer.tunnel, now, &next_at)
    if actions & ACTION_ZERO:
        zero_peer(dev, peer)
    if actions & ACTION_GIVE_UP:
        drop_staged(dev, peer, INT64_MAX)
        raise_event(&dev.timer, EVENT_HANDSHAKE_FAILED, peer.tunnel.remote_static, NULL)
    if actions & ACTION_KEEPALIVE and not peer_send_keepalive(&dev.timer, peer, now):
        actions |= ACTION_INITIATE
        next_at = min(next_at, tunnel_sent(&peer.tunnel, TRAFFIC_HANDSHAKE, now))   # the next one, without a path too
    if wanted:
        peer.tunnel.attempts = 0
    elif actions & ACTION_INITIATE:
        peer_forget_source(dev, peer)   # the peer is silent: the address we send from may be why
    if wanted or actions & ACTION_INITIATE:
        peer_initiate(dev, peer, False, now)
    peer_check_at(dev, peer, next_at)
    peer_check_at(dev, peer, check_silence(dev, peer, now))


cdef int64_t check_silence(wh_device* dev, wh_peer* peer, int64_t now) noexcept nogil:
    """Tell the engine once that what was sent on a path has been unanswered for as long as the paths allow. Returns when
    to look again."""
    cdef int64_t at = wh_load_i64(&peer.silence_at), since, next_at = INT64_MAX
    cdef const wh_paths* paths = peer.paths
    cdef int i
    if at == 0:
        return INT64_MAX
    if at > now:
        return at
    wh_store_i64(&peer.silence_at, 0)
    wh_fence()          # who begins a silence sets unanswered_at before it finds that a look is armed
    if paths == NULL or not watches_silence(paths):
        return INT64_MAX
    for i in range(paths.n):
        since = wh_load_i64(&peer.unanswered_at[i])
        if since == 0 or since == peer.silence_told[i]:
            continue
        at = since + paths.silence_ns
        if at > now:
            next_at = min(next_at, at)
        else:
            peer.silence_told[i] = since
            raise_event(&dev.timer, EVENT_PATH_SILENT, peer.tunnel.remote_static, &paths.at[i])
    if next_at != INT64_MAX:
        wh_store_i64(&peer.silence_at, next_at)
    return next_at


cdef void zero_peer(wh_device* dev, wh_peer* peer) noexcept nogil:
    cdef retired_keypairs old
    old.n = 0
    tunnel_zero(&peer.tunnel, &old)
    retire_keypairs(dev, &old)
    release_handshake(dev, peer)


cdef void release_handshake(wh_device* dev, wh_peer* peer) noexcept nogil:
    if peer.tunnel.handshake_index:
        index_release(dev, peer.tunnel.handshake_index)
        peer.tunnel.handshake_index = 0


cdef void drop_staged(wh_device* dev, wh_peer* peer, int64_t older_than) noexcept nogil:
    """Free the staged packets that came before older_than."""
    cdef staged_packet* packet
    while True:
        wh_spin_lock(&peer.stage_lock)
        packet = peer.stage_head
        if packet != NULL and packet.staged_at < older_than:
            peer.stage_head = packet.next
            peer.staged -= 1
        else:
            packet = NULL
        wh_spin_unlock(&peer.stage_lock)
        if packet == NULL:
            return
        dev.timer.counters[DROP_STAGE_OLD] += 1
        free(packet)


cdef void want_path(wh_device* dev, wh_peer* peer, int64_t now) noexcept nogil:
    """Traffic waits and there is nowhere to send it: tell the engine, once a second as long as that is so."""
    drop_staged(dev, peer, now - STAGE_LIFETIME)
    if not peer.managed or wh_load_u32(&peer.staged) == 0:
        return
    if peer.path_wanted_at == 0 or now - peer.path_wanted_at >= PATH_WANTED_INTERVAL:
        peer.path_wanted_at = now
        raise_event(&dev.timer, EVENT_PATH_WANTED, peer.tunnel.remote_static, NULL)
    wanted_at(dev, peer, peer.path_wanted_at + PATH_WANTED_INTERVAL)


cdef void wanted_at(wh_device* dev, wh_peer* peer, int64_t at) noexcept nogil:
    """Look again at `at`, as if a handshake was asked for then."""
    wh_exchange_u32(&peer.handshake_wanted, 1)
    peer_check_at(dev, peer, at)


cdef void peer_initiate(wh_device* dev, wh_peer* peer, bint force, int64_t now) noexcept nogil:
    cdef uint8_t room[CHANNEL_HEADER_LEN + INITIATION_LEN]
    cdef uint8_t* message = room + CHANNEL_HEADER_LEN
    cdef uint32_t index
    if peer.paths == NULL:
        want_path(dev, peer, now)
        return
    if not force and not tunnel_may_initiate(&peer.tunnel, now):
        if wh_load_u32(&peer.staged):
            wanted_at(dev, peer, peer.tunnel.last_initiation_sent_at + REKEY_TIMEOUT)
        return
    release_handshake(dev, peer)
    index = index_claim(dev, NULL, peer.slot)
    if index == 0:
        return
    if tunnel_initiate(&peer.tunnel, &dev.identity, index, message, now, wh_wall_ns()) != WH_OK:
        index_release(dev, index)
        return
    wh_store_i64(&dev.last_stamp_ns, max(dev.last_stamp_ns, peer.tunnel.last_stamp_ns))
    peer_check_at(dev, peer, tunnel_initiation_sent(&peer.tunnel, now))
    # Which of two paths works is not known before there is a session.
    count_sent(dev, peer, send_to_peer(dev, peer, message, INITIATION_LEN, 0, True), INITIATION_LEN)


cdef void count_sent(wh_device* dev, wh_peer* peer, int copies, size_t n) noexcept nogil:
    """peer: NULL for a message to nobody we know."""
    dev.timer.counters[COUNT_TX_HANDSHAKE if copies else DROP_SEND] += 1
    if peer != NULL:
        wh_add_u64(&peer.tx_bytes, copies * n)


# --- handshake messages ---------------------------------------------------------------------------------------------

cdef bint drain_rings(wh_device* dev) noexcept nogil:
    """A burst of each worker's messages. Returns whether more wait."""
    cdef int i, taken
    cdef bint more = False
    cdef ring* r
    cdef record* message
    cdef int64_t now = wh_now_ns()
    for i in range(dev.worker_count):
        r = &dev.workers[i].handshakes
        if wh_load_u64(&r.tail) - r.head > r.slots // 8:
            wh_store_i64(&dev.loaded_until, now + LOADED_FOR)
        for taken in range(RING_BURST):
            message = ring_front(r)
            if message == NULL:
                break
            pthread_mutex_lock(&dev.control_lock)
            handle_message(dev, message, wh_now_ns())
            pthread_mutex_unlock(&dev.control_lock)
            ring_pop(r)
        more = more or ring_front(r) != NULL
    return more


cdef void handle_message(wh_device* dev, record* message, int64_t now) noexcept nogil:
    cdef uint32_t kind = message.data[0]
    cdef uint64_t* counters = dev.timer.counters
    counters[COUNT_RX_HANDSHAKE] += 1
    if dev.identity.secret == NULL:
        counters[DROP_HANDSHAKE] += 1
    elif kind == MESSAGE_COOKIE and message.len == COOKIE_LEN:
        handle_cookie(dev, message, now)
    elif kind == MESSAGE_INITIATION and message.len == INITIATION_LEN:
        if admitted(dev, message, now):
            handle_initiation(dev, message, now)
    elif kind == MESSAGE_RESPONSE and message.len == RESPONSE_LEN:
        if admitted(dev, message, now):
            handle_response(dev, message, now)
    else:
        counters[DROP_LENGTH] += 1


cdef bint admitted(wh_device* dev, record* message, int64_t now) noexcept nogil:
    """Under load a sender's share (5.3). The worker has looked at the macs, and answered with cookies."""
    cdef uint8_t source[COOKIE_SOURCE_LEN]
    if message.kind != QUEUED_PROVED:
        return True
    cookie_source(source, message.remote, message.channel)
    # Of channels the relay's address counts: who needs no relay to claim a channel could claim all of them.
    if proved_limiter_allow(&dev.proved, source, message.remote, now) != WH_OK:
        dev.timer.counters[DROP_HANDSHAKE] += 1
        return False
    return True


cdef int source_path(wh_device* dev, record* message, wh_path* path) noexcept nogil:
    """The way back to where a message came from."""
    cdef int rc = path_fill(dev, path, message.socket, message.remote, message.channel, message.source.ifindex)
    path.source = message.source
    return rc


cdef void handle_initiation(wh_device* dev, record* message, int64_t now) noexcept nogil:
    cdef noise_handshake hs
    cdef retired_keypairs old
    cdef uint8_t room[CHANNEL_HEADER_LEN + RESPONSE_LEN]
    cdef uint8_t* response = room + CHANNEL_HEADER_LEN
    cdef wh_path path
    cdef wh_peer* peer = NULL
    cdef keypair* fresh = NULL
    cdef int rc
    old.n = 0
    rc = noise_read_initiation_static(&hs, &dev.identity.suite, dev.identity.secret, dev.identity.public, NULL,
                                      message.data + 8)
    if rc == WH_OK:
        peer = peer_find(dev, hs.remote_static)
    if peer != NULL:
        fresh = claim_keypair(dev, peer)
    if fresh == NULL:
        noise_wipe(&hs)
        dev.timer.counters[DROP_HANDSHAKE] += 1
        return
    rc = tunnel_answer_initiation(&peer.tunnel, &dev.identity, &hs, message.data, fresh, response, &old, now)
    noise_wipe(&hs)
    if rc != WH_OK:
        index_release(dev, fresh.local_index)
        arena_free(&dev.keypairs, fresh)
        dev.timer.counters[DROP_HANDSHAKE] += 1
        return
    index_bind(dev, fresh.local_index, fresh)
    retire_keypairs(dev, &old)
    wh_add_u64(&peer.rx_bytes, message.len)
    peer_check_at(dev, peer, tunnel_received(&peer.tunnel, TRAFFIC_HANDSHAKE, now))
    peer_check_at(dev, peer, tunnel_sent(&peer.tunnel, TRAFFIC_HANDSHAKE, now))
    peer_check_at(dev, peer, peer.tunnel.zero_at)
    # A response goes to where its initiation came from, whatever the peer's path is.
    if source_path(dev, message, &path) == WH_OK:
        count_sent(dev, peer, send_on_path(dev, &path, response, RESPONSE_LEN, 0), RESPONSE_LEN)
        peer_seen_on(&dev.timer, peer, &path, now)


cdef keypair* claim_keypair(wh_device* dev, wh_peer* peer) noexcept nogil:
    """A zeroed keypair with a receiver index of its own, or NULL where there is no room."""
    cdef keypair* fresh = <keypair*>arena_alloc(&dev.keypairs)
    if fresh == NULL:
        return NULL
    fresh.peer_slot = peer.slot
    fresh.local_index = index_claim(dev, NULL, peer.slot)   # bound to it once it holds keys
    if fresh.local_index == 0:
        arena_free(&dev.keypairs, fresh)
        return NULL
    return fresh


cdef wh_peer* peer_of_index(wh_device* dev, uint32_t index) noexcept nogil:
    cdef index_entry* entry = index_find(dev, index)
    cdef wh_peer* peer
    if entry == NULL:
        dev.timer.counters[DROP_INDEX] += 1
        return NULL
    peer = peer_at(dev, entry.slot)
    return peer if peer.live else NULL


cdef void handle_response(wh_device* dev, record* message, int64_t now) noexcept nogil:
    cdef retired_keypairs old
    cdef wh_path path
    cdef keypair* fresh
    cdef uint32_t index = wh_le32(message.data + 8)
    cdef wh_peer* peer = peer_of_index(dev, index)
    if peer == NULL or peer.tunnel.handshake_index != index:
        dev.timer.counters[DROP_HANDSHAKE] += 1
        return
    fresh = <keypair*>arena_alloc(&dev.keypairs)
    if fresh == NULL:
        return
    fresh.peer_slot = peer.slot
    old.n = 0
    if tunnel_consume_response(&peer.tunnel, &dev.identity, message.data, fresh, &old, now, wh_wall_ns()) != WH_OK:
        arena_free(&dev.keypairs, fresh)
        dev.timer.counters[DROP_HANDSHAKE] += 1
        return
    index_bind(dev, index, fresh)
    retire_keypairs(dev, &old)
    wh_add_u64(&peer.rx_bytes, message.len)
    peer_check_at(dev, peer, peer.tunnel.zero_at)
    if source_path(dev, message, &path) == WH_OK:
        peer_seen_on(&dev.timer, peer, &path, now)
    peer_check_at(dev, peer, tunnel_received(&peer.tunnel, TRAFFIC_HANDSHAKE, now))
    raise_event(&dev.timer, EVENT_HANDSHAKE, peer.tunnel.remote_static, NULL)
    # The responder may not use the session before it hears a data message (5.4.3): a packet that waits, or none.
    if wh_load_u32(&peer.staged):
        peer_flush(&dev.timer, peer, now)
    else:
        peer_send_keepalive(&dev.timer, peer, now)


cdef void handle_cookie(wh_device* dev, record* message, int64_t now) noexcept nogil:
    cdef wh_peer* peer = peer_of_index(dev, wh_le32(message.data + 4))
    cdef bint had_one = peer != NULL and cookie_is_fresh(&peer.tunnel.jar, now)
    if peer == NULL or cookie_consume(&peer.tunnel.jar, &peer.tunnel.remote_keys, message.data + 8, message.data + 32,
                                      now) != WH_OK:
        dev.timer.counters[DROP_HANDSHAKE] += 1
    elif peer.managed and not had_one and peer.tunnel.handshake_index:
        # WireGuard waits for its timer (5.4.7). Our own peers begin anew at once, with the cookie, and only where the
        # initiation had none: so once, whatever is answered.
        peer_initiate(dev, peer, True, now)
