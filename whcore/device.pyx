"""Shared state of one data plane: see device.pxd for structs, locks and contracts."""

from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from whcore.aead cimport aead_seal
from whcore.allowedips cimport (
    allowedips_clear, allowedips_free_list, allowedips_init, allowedips_node, allowedips_remove_peer,
    allowedips_take_retired,
)
from whcore.arena cimport arena_alloc, arena_at, arena_destroy, arena_free, arena_index, arena_init
from whcore.cookie cimport rate_limiter_free, rate_limiter_init
from whcore.errors cimport WH_E_MEMORY, WH_E_STATE, WH_OK
from whcore.forwarder cimport (
    CHANNEL_HEADER_LEN, forward_free_list, forward_retired, forward_table_free, forward_table_init, put_channel_header,
)
from whcore.kernel cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, MSG_DONTWAIT, PROT_READ,
    PROT_WRITE, close, errno, eventfd, eventfd_write, iovec, mmap, msghdr, munmap, pthread_mutex_destroy,
    pthread_mutex_init, sendmsg, EINVAL, EADDRNOTAVAIL, ENODEV, ENETUNREACH, wh_add_u64, wh_exchange_u32, wh_fence,
    wh_link_local, wh_load_i64, wh_load_ptr, wh_load_u32, wh_load_u64, wh_min_i64, wh_put_le32, wh_put_le64, wh_set_link,
    wh_sockaddr, wh_spin_lock, wh_spin_unlock, wh_store_i64, wh_store_ptr, wh_store_u32, wh_store_u64,
)
from whcore.offload cimport packet_ecn
from whcore.sodium cimport randombytes_buf, randombytes_uniform
from whcore.tunnel cimport (
    DATA_HEADER_LEN, MESSAGE_DATA, TAG_LEN, TRAFFIC_DATA, TRAFFIC_KEEPALIVE, identity_init, keypair, retired_keypairs,
    tunnel_claim, tunnel_init, tunnel_rekey_after_send, tunnel_sent, tunnel_zero,
)
from whcore.udp cimport CONTROL_WORDS, wh_source, wh_udp_control, wh_udp_hop_limit

cdef int64_t SECOND = 1_000_000_000
cdef int64_t NEW_PATH_INTERVAL = 250_000_000    # ns between events for one unchanged off-path source
cdef int64_t NEW_PATH_PAUSE = 20_000_000        # ns between events of one peer, whatever the source
cdef uint32_t RECLAIM_EVERY = 64                # retired items that wake the timer thread to free them
# Whitepaper 5.3: initiations of one address a second under load, and its burst.
cdef uint64_t LOADED_HANDSHAKES_PER_S = 20
cdef uint64_t LOADED_HANDSHAKES_BURST = 5
cdef uint32_t LIMITER_BUCKETS = 8192


# --- life -----------------------------------------------------------------------------------------------------------

cdef void* reserve(size_t n) noexcept nogil:
    """Zeroed memory that costs only what is touched; NULL where there is none."""
    cdef void* region = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    return NULL if region == MAP_FAILED else region


cdef int device_init(wh_device* dev, int mtu) noexcept nogil:
    cdef int i
    memset(dev, 0, sizeof(wh_device))
    dev.event_fd = dev.kick_fd = dev.stop_fd = dev.timer.epoll_fd = -1
    for i in range(MAX_SOCKETS):
        dev.sockets[i].fd = -1
    pthread_mutex_init(&dev.control_lock, NULL)
    allowedips_init(&dev.allowed)
    identity_init(&dev.identity)
    dev.mtu = mtu
    dev.epoch = 1
    dev.sleep_until = INT64_MAX
    randombytes_buf(&dev.key_hash_salt, sizeof(dev.key_hash_salt))
    randombytes_buf(&dev.index_mask, sizeof(dev.index_mask))
    dev.next_check = <int64_t*>reserve(MAX_PEERS * sizeof(int64_t))
    dev.indices = <index_entry*>reserve(MAX_INDICES * sizeof(index_entry))
    dev.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    dev.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    dev.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    if (
        dev.next_check == NULL or dev.indices == NULL or dev.event_fd < 0 or dev.kick_fd < 0 or dev.stop_fd < 0
        or arena_init(&dev.peers, sizeof(wh_peer), MAX_PEERS) != WH_OK
        or arena_init(&dev.keypairs, sizeof(keypair), 3 * MAX_PEERS) != WH_OK
        or forward_table_init(&dev.forwards) != WH_OK
        or rate_limiter_init(&dev.limiter, LIMITER_BUCKETS, LOADED_HANDSHAKES_PER_S, LOADED_HANDSHAKES_BURST) != WH_OK
    ):
        device_destroy(dev)
        return WH_E_MEMORY
    return WH_OK


cdef void close_fd(int* fd) noexcept nogil:
    if fd[0] >= 0:
        close(fd[0])
    fd[0] = -1


cdef void device_destroy(wh_device* dev) noexcept nogil:
    cdef int i
    cdef wh_peer* peer
    for i in range(KEY_BUCKETS):
        while dev.by_key[i] != NULL:
            peer_remove(dev, dev.by_key[i])
    reclaim(dev, True)
    allowedips_clear(&dev.allowed)
    forward_table_free(&dev.forwards)
    for i in range(MAX_SOCKETS):
        close_fd(&dev.sockets[i].fd)
    close_fd(&dev.event_fd)
    close_fd(&dev.kick_fd)
    close_fd(&dev.stop_fd)
    rate_limiter_free(&dev.limiter)
    arena_destroy(&dev.peers)
    arena_destroy(&dev.keypairs)
    if dev.next_check != NULL:
        munmap(dev.next_check, MAX_PEERS * sizeof(int64_t))
    if dev.indices != NULL:
        munmap(dev.indices, MAX_INDICES * sizeof(index_entry))
    pthread_mutex_destroy(&dev.control_lock)


# --- rings ----------------------------------------------------------------------------------------------------------

cdef int ring_init(ring* r, uint32_t slots, uint32_t data_len) noexcept nogil:
    memset(r, 0, sizeof(ring))
    r.slots = slots
    r.slot_size = <uint32_t>((sizeof(record) + data_len + 63) // 64 * 64)
    r.data = <uint8_t*>malloc(<size_t>r.slot_size * slots)
    return WH_OK if r.data != NULL else WH_E_MEMORY


cdef void ring_free(ring* r) noexcept nogil:
    free(r.data)
    r.data = NULL


cdef record* ring_reserve(ring* r) noexcept nogil:
    if r.tail - wh_load_u64(&r.head) >= r.slots:
        return NULL
    return <record*>(r.data + (r.tail & (r.slots - 1)) * r.slot_size)


cdef bint ring_publish(ring* r) noexcept nogil:
    cdef uint64_t before = r.tail
    wh_store_u64(&r.tail, before + 1)
    wh_fence()          # the consumer's head must be read after our tail is visible, or a wake-up is lost
    return wh_load_u64(&r.head) == before


cdef record* ring_front(ring* r) noexcept nogil:
    wh_fence()
    if wh_load_u64(&r.tail) == r.head:
        return NULL
    return <record*>(r.data + (r.head & (r.slots - 1)) * r.slot_size)


cdef void ring_pop(ring* r) noexcept nogil:
    wh_store_u64(&r.head, r.head + 1)


cdef void raise_event(wh_worker* w, int kind, const uint8_t* key, const wh_path* path) noexcept nogil:
    cdef record* slot = ring_reserve(&w.events)
    if slot == NULL:
        w.counters[DROP_QUEUE_FULL] += 1
        return
    slot.kind = kind
    slot.len = 0
    slot.socket = -1
    if key != NULL:
        memcpy(slot.key, key, 32)
    if path != NULL:
        slot.socket = path.socket
        slot.channel = path.channel
        memcpy(slot.remote, path.remote, 18)
    if ring_publish(&w.events):
        eventfd_write(w.device.event_fd, 1)


# --- peers ----------------------------------------------------------------------------------------------------------

cdef inline uint32_t bucket_of(const wh_device* dev, const uint8_t* key) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, key, 8)
    word = (word ^ dev.key_hash_salt) * <uint64_t>0x9E3779B97F4A7C15
    return <uint32_t>(word >> 52)


cdef wh_peer* peer_find(wh_device* dev, const uint8_t* key) noexcept nogil:
    cdef wh_peer* peer = dev.by_key[bucket_of(dev, key)]
    while peer != NULL and memcmp(peer.tunnel.remote_static, key, 32) != 0:
        peer = peer.next_in_bucket
    return peer


cdef wh_peer* peer_at(wh_device* dev, uint32_t slot) noexcept nogil:
    return <wh_peer*>arena_at(&dev.peers, slot)


cdef wh_peer* peer_add(wh_device* dev, const uint8_t* key, bint managed) noexcept nogil:
    cdef wh_peer* peer = <wh_peer*>arena_alloc(&dev.peers)
    cdef uint32_t bucket = bucket_of(dev, key)
    if peer == NULL:
        return NULL
    tunnel_init(&peer.tunnel, &dev.identity, key)
    peer.slot = arena_index(&dev.peers, peer)
    peer.managed = managed
    wh_store_i64(&dev.next_check[peer.slot], INT64_MAX)
    wh_store_u32(&peer.live, 1)
    peer.next_in_bucket = dev.by_key[bucket]
    dev.by_key[bucket] = peer
    return peer


cdef void peer_remove(wh_device* dev, wh_peer* peer) noexcept nogil:
    cdef wh_peer** link = &dev.by_key[bucket_of(dev, peer.tunnel.remote_static)]
    cdef retired_keypairs old
    cdef allowedips_node* chain
    while link[0] != peer:
        link = &link[0].next_in_bucket
    link[0] = peer.next_in_bucket
    wh_store_u32(&peer.live, 0)
    wh_store_i64(&dev.next_check[peer.slot], INT64_MAX)
    allowedips_remove_peer(&dev.allowed, peer.slot)
    chain = allowedips_take_retired(&dev.allowed)
    if chain != NULL:
        retire_later(dev, RETIRED_ALLOWEDIPS, chain, -1)
    if peer.tunnel.handshake_index:
        index_release(dev, peer.tunnel.handshake_index)
        peer.tunnel.handshake_index = 0
    old.n = 0
    tunnel_zero(&peer.tunnel, &old)
    retire_keypairs(dev, &old)
    retire_later(dev, RETIRED_PEER, peer, -1)


cdef void free_stage(wh_peer* peer) noexcept nogil:
    cdef staged_packet* packet
    while peer.stage_head != NULL:
        packet = peer.stage_head
        peer.stage_head = packet.next
        free(packet)
    peer.stage_tail = NULL
    peer.staged = 0


# --- receiver indices -----------------------------------------------------------------------------------------------
# index = (random 14 bits << 18 | slot) ^ mask: a slot's old index stops matching as soon as it is released.

cdef inline uint32_t index_slot(const wh_device* dev, uint32_t index) noexcept nogil:
    return (index ^ dev.index_mask) & (MAX_INDICES - 1)


cdef uint32_t index_claim(wh_device* dev, keypair* kp, uint32_t slot) noexcept nogil:
    cdef uint32_t place, index = 0
    cdef index_entry* entry
    if dev.index_free:
        place = dev.index_free - 1
        dev.index_free = dev.indices[place].next_free
    elif dev.index_high < MAX_INDICES:
        place = dev.index_high
        dev.index_high += 1
    else:
        return 0
    while index == 0:
        index = (randombytes_uniform(1 << 14) << 18 | place) ^ dev.index_mask
    entry = &dev.indices[place]
    entry.slot = slot
    wh_store_ptr(&entry.kp, kp)
    wh_store_u32(&entry.index, index)
    return index


cdef void index_release(wh_device* dev, uint32_t index) noexcept nogil:
    cdef uint32_t place = index_slot(dev, index)
    cdef index_entry* entry = &dev.indices[place]
    if entry.index != index:
        return
    wh_store_u32(&entry.index, 0)
    wh_store_ptr(&entry.kp, NULL)
    entry.next_free = dev.index_free
    dev.index_free = place + 1


cdef void index_bind(wh_device* dev, uint32_t index, keypair* kp) noexcept nogil:
    wh_store_ptr(&dev.indices[index_slot(dev, index)].kp, kp)


cdef index_entry* index_find(wh_device* dev, uint32_t index) noexcept nogil:
    cdef index_entry* entry = &dev.indices[index_slot(dev, index)]
    return entry if index != 0 and wh_load_u32(&entry.index) == index else NULL


cdef void retire_keypairs(wh_device* dev, retired_keypairs* old) noexcept nogil:
    cdef int i
    for i in range(old.n):
        index_release(dev, old.items[i].local_index)
        retire_later(dev, RETIRED_KEYPAIR, old.items[i], -1)
    old.n = 0


# --- deferred frees -------------------------------------------------------------------------------------------------

cdef void retire_later(wh_device* dev, int kind, void* item, int fd) noexcept nogil:
    cdef retired* entry = <retired*>malloc(sizeof(retired))
    cdef bint crowded
    if entry == NULL:
        return          # out of memory: leaking one item is better than freeing it under a reader
    entry.kind = kind
    entry.item = item
    entry.fd = fd
    wh_spin_lock(&dev.retire_lock)
    wh_fence()          # who sees the new epoch must also see that the item was unlinked
    entry.epoch = wh_add_u64(&dev.epoch, 1) + 1
    entry.next = dev.retired_list
    dev.retired_list = entry
    dev.retired_count += 1
    crowded = dev.retired_count % RECLAIM_EVERY == 0
    wh_spin_unlock(&dev.retire_lock)
    if crowded:
        eventfd_write(dev.kick_fd, 1)


cdef void free_retired(wh_device* dev, retired* entry) noexcept nogil:
    cdef wh_peer* peer
    if entry.kind == RETIRED_MEMORY:
        free(entry.item)
    elif entry.kind == RETIRED_KEYPAIR:
        arena_free(&dev.keypairs, entry.item)
    elif entry.kind == RETIRED_PEER:
        peer = <wh_peer*>entry.item
        free_stage(peer)
        free(peer.paths)
        arena_free(&dev.peers, peer)
    elif entry.kind == RETIRED_ALLOWEDIPS:
        allowedips_free_list(<allowedips_node*>entry.item)
    elif entry.kind == RETIRED_FORWARDS:
        forward_free_list(<forward_retired*>entry.item)
    else:
        close(entry.fd)
    free(entry)


cdef void reclaim(wh_device* dev, bint all) noexcept nogil:
    """Free what no worker can hold any more."""
    cdef uint64_t oldest = UINT64_MAX, seen
    cdef retired* entry
    cdef retired* following
    cdef retired* kept = NULL
    cdef int i
    if dev.retired_list == NULL:
        return
    wh_spin_lock(&dev.retire_lock)
    entry = dev.retired_list
    dev.retired_list = NULL
    dev.retired_count = 0
    wh_spin_unlock(&dev.retire_lock)
    wh_fence()
    for i in range(dev.worker_count):
        seen = wh_load_u64(&dev.workers[i].epoch)
        oldest = min(oldest, seen)
    while entry != NULL:
        following = entry.next
        if all or entry.epoch <= oldest:
            free_retired(dev, entry)
        else:
            entry.next = kept
            kept = entry
        entry = following
    if kept == NULL:
        return
    wh_spin_lock(&dev.retire_lock)
    while kept != NULL:
        following = kept.next
        kept.next = dev.retired_list
        dev.retired_list = kept
        kept = following
    wh_spin_unlock(&dev.retire_lock)


# --- paths ----------------------------------------------------------------------------------------------------------

cdef int path_fill(const wh_device* dev, wh_path* path, int socket, const uint8_t* remote, uint32_t channel,
                   uint32_t link) noexcept nogil:
    memset(path, 0, sizeof(wh_path))
    if socket < 0 or socket >= MAX_SOCKETS or dev.sockets[socket].fd < 0:
        return WH_E_STATE
    path.socket = socket
    path.channel = channel
    memcpy(path.remote, remote, 18)
    path.address_len = wh_sockaddr(&path.address, remote, dev.sockets[socket].family)
    if path.address_len == 0:
        return WH_E_STATE
    if wh_link_local(remote):
        path.link = link
        wh_set_link(&path.address, link)
    return WH_OK


cdef wh_paths* paths_of(const wh_path* path) noexcept nogil:
    cdef wh_paths* paths = <wh_paths*>calloc(1, sizeof(wh_paths))
    if paths != NULL:
        paths.n = 1
        paths.inner_limit = MAX_PACKET
        paths.at[0] = path[0]
    return paths


cdef bint path_is(const wh_path* path, const wh_path* other) noexcept nogil:
    return (
        path.socket == other.socket and path.channel == other.channel and path.link == other.link
        and memcmp(path.remote, other.remote, 18) == 0
    )


cdef void peer_set_paths(wh_device* dev, wh_peer* peer, wh_paths* paths) noexcept nogil:
    cdef wh_paths* old
    wh_spin_lock(&peer.seen_lock)
    old = peer.paths
    wh_store_ptr(&peer.paths, paths)
    wh_spin_unlock(&peer.seen_lock)
    wh_store_i64(&peer.unanswered_at, 0)
    if old != NULL:
        retire_later(dev, RETIRED_MEMORY, old, -1)


cdef void peer_amend_paths(wh_device* dev, wh_peer* peer, const wh_paths* before, wh_paths* after) noexcept nogil:
    cdef bint unchanged
    wh_spin_lock(&peer.seen_lock)
    unchanged = peer.paths == before
    if unchanged:
        wh_store_ptr(&peer.paths, after)
    wh_spin_unlock(&peer.seen_lock)
    if not unchanged:
        free(after)
    elif before != NULL:
        retire_later(dev, RETIRED_MEMORY, <void*>before, -1)


cdef void peer_forget_source(wh_device* dev, wh_peer* peer) noexcept nogil:
    cdef wh_paths* paths = <wh_paths*>wh_load_ptr(&peer.paths)
    cdef wh_paths* fresh
    if paths == NULL:
        return
    fresh = <wh_paths*>malloc(sizeof(wh_paths))
    if fresh == NULL:
        return
    fresh[0] = paths[0]
    fresh.at[0].source.known = 0
    fresh.at[1].source.known = 0
    peer_amend_paths(dev, peer, paths, fresh)


cdef void peer_heard(wh_peer* peer) noexcept nogil:
    if wh_load_i64(&peer.unanswered_at):
        wh_store_i64(&peer.unanswered_at, 0)


cdef void peer_seen_on(wh_worker* w, wh_peer* peer, const wh_path* path, int64_t now) noexcept nogil:
    cdef wh_paths* paths = <wh_paths*>wh_load_ptr(&peer.paths)
    cdef wh_paths* fresh
    cdef bint known = False, repeated
    cdef int i
    if paths != NULL:
        for i in range(paths.n):
            known = known or path_is(&paths.at[i], path)
    if paths == NULL or not watches_silence(paths) or path_is(&paths.at[0], path):
        peer_heard(peer)
    if peer.managed:
        if known:
            return
        wh_spin_lock(&peer.seen_lock)
        repeated = now - peer.seen_at < NEW_PATH_PAUSE or (
            now - peer.seen_at < NEW_PATH_INTERVAL and peer.seen_channel == path.channel
            and memcmp(peer.seen_remote, path.remote, 18) == 0
        )
        if not repeated:
            peer.seen_at = now
            peer.seen_channel = path.channel
            memcpy(peer.seen_remote, path.remote, 18)
        wh_spin_unlock(&peer.seen_lock)
        if not repeated:
            raise_event(w, EVENT_NEW_PATH, peer.tunnel.remote_static, path)
    elif not known or same_source(&paths.at[0].source, &path.source) == 0:
        fresh = paths_of(path)
        if fresh != NULL:
            peer_amend_paths(w.device, peer, paths, fresh)


cdef inline bint same_source(const wh_source* a, const wh_source* b) noexcept nogil:
    return a.known == b.known and a.ifindex == b.ifindex and memcmp(a.address, b.address, 16) == 0


cdef bint peer_sends_twice(wh_device* dev, wh_peer* peer, const wh_paths* paths, bint wants_answer, int64_t now) noexcept nogil:
    cdef int64_t since = wh_load_i64(&peer.unanswered_at)
    if since == 0:
        since = now
        if wants_answer:
            wh_store_i64(&peer.unanswered_at, now)
            if watches_silence(paths):
                watch_silence(dev, peer, now + paths.silence_ns)
    if watches_silence(paths):
        return now - since >= paths.silence_ns
    return paths.n == 2 and paths.mode == PATHS_DUPLICATE


cdef void watch_silence(wh_device* dev, wh_peer* peer, int64_t at) noexcept nogil:
    """One look is armed at a time, however often silence begins and ends before it: the timer thread, which finds out
    then whether to look again, is woken no more often than silence takes."""
    wh_fence()          # who takes the look away reads unanswered_at after that
    if wh_load_i64(&peer.silence_at) == 0:
        wh_store_i64(&peer.silence_at, at)
        peer_check_at(dev, peer, at)


# --- timers ---------------------------------------------------------------------------------------------------------

cdef void peer_check_at(wh_device* dev, wh_peer* peer, int64_t at) noexcept nogil:
    if at == INT64_MAX:
        return
    wh_min_i64(&dev.next_check[peer.slot], at)
    wh_fence()
    if at < wh_load_i64(&dev.sleep_until):
        eventfd_write(dev.kick_fd, 1)


cdef void peer_want_handshake(wh_device* dev, wh_peer* peer) noexcept nogil:
    if wh_exchange_u32(&peer.handshake_wanted, 1) == 0:
        peer_check_at(dev, peer, 0)


# --- sending --------------------------------------------------------------------------------------------------------

cdef size_t padded_len(const wh_device* dev, size_t n) noexcept nogil:
    """5.4.6: to a multiple of 16, but never past the interface's MTU."""
    cdef size_t padded = (n + 15) & ~<size_t>15
    cdef size_t mtu = <size_t>dev.mtu
    if padded > mtu:
        padded = mtu
    return padded if padded > n else n


cdef size_t data_frame(const wh_device* dev, keypair* kp, uint64_t counter, uint8_t* plaintext, size_t n) noexcept nogil:
    """Header and padding around a plaintext; sealing it is the caller's. Returns the padded length."""
    cdef uint8_t* header = plaintext - DATA_HEADER_LEN
    cdef size_t padded = padded_len(dev, n)
    header[0] = MESSAGE_DATA
    header[1] = header[2] = header[3] = 0
    wh_put_le32(header + 4, kp.remote_index)
    wh_put_le64(header + 8, counter)
    memset(plaintext + n, 0, padded - n)
    return padded


cdef bint source_was_refused(int error) noexcept nogil:
    """The errors of a send whose source address or link went away."""
    return error == EINVAL or error == EADDRNOTAVAIL or error == ENODEV or error == ENETUNREACH


cdef bint send_datagrams(const wh_device* dev, const wh_path* path, const uint8_t* data, size_t n, uint16_t segment_len,
                         uint8_t ecn, uint8_t hop_limit) noexcept nogil:
    cdef uint64_t control[CONTROL_WORDS]
    cdef iovec vector
    cdef msghdr message
    cdef int fd = dev.sockets[path.socket].fd, family = dev.sockets[path.socket].family
    vector.iov_base = <void*>data
    vector.iov_len = n
    memset(&message, 0, sizeof(message))
    message.msg_name = <void*>&path.address
    message.msg_namelen = path.address_len
    message.msg_iov = &vector
    message.msg_iovlen = 1
    wh_udp_control(&message, control, family, segment_len, ecn, &path.source)
    if hop_limit:
        wh_udp_hop_limit(&message, control, family, hop_limit)
    return sendmsg(fd, &message, MSG_DONTWAIT) == <ssize_t>n


cdef bint send_on_path(wh_device* dev, const wh_path* path, uint8_t* data, size_t n, uint8_t ecn) noexcept nogil:
    if path.channel:
        data -= CHANNEL_HEADER_LEN
        n += CHANNEL_HEADER_LEN
        put_channel_header(data, path.channel)
    return send_datagrams(dev, path, data, n, 0, ecn, 0)


cdef int send_to_peer(wh_device* dev, wh_peer* peer, uint8_t* data, size_t n, uint8_t ecn, bint twice) noexcept nogil:
    cdef wh_paths* paths = <wh_paths*>wh_load_ptr(&peer.paths)
    cdef wh_path path
    cdef int i, copies = 0
    if paths == NULL:
        return 0
    for i in range(paths.n if twice else 1):
        path = paths.at[i]
        if send_on_path(dev, &path, data, n, ecn):
            copies += 1
        elif path.source.known and source_was_refused(errno):
            peer_forget_source(dev, peer)
            path.source.known = 0
            copies += send_on_path(dev, &path, data, n, ecn)
    return copies


cdef bint seal_and_send(wh_worker* w, wh_peer* peer, keypair* kp, uint64_t counter, uint8_t* plaintext, size_t n,
                        int64_t now) noexcept nogil:
    cdef wh_device* dev = w.device
    cdef uint8_t ecn = packet_ecn(plaintext) if n else 0
    cdef size_t padded = data_frame(dev, kp, counter, plaintext, n)
    cdef size_t total = DATA_HEADER_LEN + padded + TAG_LEN
    cdef wh_paths* paths = <wh_paths*>wh_load_ptr(&peer.paths)
    cdef bint twice = paths != NULL and peer_sends_twice(dev, peer, paths, n > 0, now)
    cdef int copies
    aead_seal(plaintext, plaintext, padded, NULL, 0, counter, kp.send_key)
    peer_check_at(dev, peer, tunnel_sent(&peer.tunnel, TRAFFIC_DATA if n else TRAFFIC_KEEPALIVE, now))
    copies = send_to_peer(dev, peer, plaintext - DATA_HEADER_LEN, total, ecn, twice)
    if copies == 0:
        w.counters[DROP_SEND] += 1
        return False
    w.counters[COUNT_TX_DATA] += copies
    w.counters[COUNT_DUPLICATED] += copies - 1
    wh_add_u64(&peer.tx_bytes, copies * total)
    wh_add_u64(&peer.tx_packets, copies if n else 0)
    if tunnel_rekey_after_send(kp, now):
        peer_want_handshake(dev, peer)
    return True


cdef bint peer_send_keepalive(wh_worker* w, wh_peer* peer, int64_t now) noexcept nogil:
    """An empty data message; False without a session or path."""
    cdef uint8_t frame[HEADROOM + 64]
    cdef uint64_t counter = 0
    cdef keypair* kp
    if wh_load_ptr(&peer.paths) == NULL:
        return False
    kp = tunnel_claim(&peer.tunnel, 1, &counter, now)
    if kp == NULL:
        return False
    return seal_and_send(w, peer, kp, counter, frame + HEADROOM, 0, now)


cdef void peer_stage(wh_worker* w, wh_peer* peer, const uint8_t* packet, size_t n, int64_t now) noexcept nogil:
    """Keep a copy until there is a session and a path; the oldest goes where the queue is full."""
    cdef staged_packet* staged = <staged_packet*>malloc(sizeof(staged_packet) + HEADROOM + n + 48)
    cdef staged_packet* dropped = NULL
    if staged == NULL:
        w.counters[DROP_STAGE_FULL] += 1
        return
    staged.next = NULL
    staged.staged_at = now
    staged.len = <uint32_t>n
    staged.data = <uint8_t*>staged + sizeof(staged_packet) + HEADROOM
    memcpy(staged.data, packet, n)
    wh_spin_lock(&peer.stage_lock)
    if peer.staged >= STAGE_LIMIT:
        dropped = peer.stage_head
        peer.stage_head = dropped.next
        peer.staged -= 1
    if peer.stage_head == NULL:
        peer.stage_head = staged
    else:
        peer.stage_tail.next = staged
    peer.stage_tail = staged
    peer.staged += 1
    wh_spin_unlock(&peer.stage_lock)
    if dropped != NULL:
        w.counters[DROP_STAGE_FULL] += 1
        free(dropped)


cdef void peer_flush(wh_worker* w, wh_peer* peer, int64_t now) noexcept nogil:
    """Send what is staged, in order, as far as session and path allow."""
    cdef staged_packet* packet
    cdef uint64_t counter = 0
    cdef keypair* kp
    while wh_load_u32(&peer.staged):
        if wh_load_ptr(&peer.paths) == NULL:
            peer_want_handshake(w.device, peer)
            return
        kp = tunnel_claim(&peer.tunnel, 1, &counter, now)
        if kp == NULL:
            peer_want_handshake(w.device, peer)
            return
        wh_spin_lock(&peer.stage_lock)
        packet = peer.stage_head
        if packet != NULL:
            peer.stage_head = packet.next
            peer.staged -= 1
        wh_spin_unlock(&peer.stage_lock)
        if packet == NULL:
            return
        if now - packet.staged_at > STAGE_LIFETIME:
            w.counters[DROP_STAGE_OLD] += 1
        else:
            seal_and_send(w, peer, kp, counter, packet.data, packet.len, now)
        free(packet)
