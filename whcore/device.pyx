"""Shared state of one data plane: see device.pxd for structs, locks and contracts."""

from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from whcore.allowedips cimport (
    allowedips_clear, allowedips_free_list, allowedips_init, allowedips_node, allowedips_remove_peer,
    allowedips_take_retired,
)
from whcore.arena cimport arena_alloc, arena_at, arena_destroy, arena_free, arena_index, arena_init
from whcore.cookie cimport proved_limiter_free, proved_limiter_init
from whcore.errors cimport WH_E_MEMORY, WH_OK
from whcore.forwarder cimport forward_free_list, forward_retired, forward_table_free, forward_table_init
from whcore.kernel cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE, close,
    eventfd, eventfd_write, mmap, munmap, pthread_mutex_destroy, pthread_mutex_init, wh_add_u64, wh_exchange_u32,
    wh_fence, wh_load_i64, wh_load_u32, wh_load_u64, wh_min_i64, wh_spin_lock, wh_spin_unlock, wh_store_i64,
    wh_store_ptr, wh_store_u32, wh_store_u64,
)
from whcore.sodium cimport randombytes_buf, randombytes_uniform
from whcore.tunnel cimport identity_init, keypair, retired_keypairs, tunnel_init, tunnel_zero

cdef uint32_t RECLAIM_EVERY = 64                # retired items that wake the timer thread to free them
# Whitepaper 5.3: handshakes a second under load, and the burst, of one address that proved itself; and of its network.
cdef uint64_t HOST_HANDSHAKES_PER_S = 20
cdef uint64_t HOST_HANDSHAKES_BURST = 5
cdef uint64_t NETWORK_HANDSHAKES_PER_S = 120
cdef uint64_t NETWORK_HANDSHAKES_BURST = 120
cdef uint32_t LIMITER_BUCKETS = 8192


# --- life -----------------------------------------------------------------------------------------------------------

cdef void* reserve(size_t n) noexcept nogil:
    """Zeroed memory that costs only what is touched; NULL where there is none."""
    cdef void* region = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    return NULL if region == MAP_FAILED else region


cdef int device_init(wh_device* dev, int mtu) noexcept nogil:
    cdef uint16_t key[4]
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
    randombytes_buf(key, sizeof(key))
    speck_schedule(dev.index_keys, key)
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
        or proved_limiter_init(&dev.proved, LIMITER_BUCKETS, HOST_HANDSHAKES_PER_S, HOST_HANDSHAKES_BURST,
                               NETWORK_HANDSHAKES_PER_S, NETWORK_HANDSHAKES_BURST) != WH_OK
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
    proved_limiter_free(&dev.proved)
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
    peer.tunnel.last_stamp_ns = dev.last_stamp_ns
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
# index = Speck32/64 of (random 14 bits << 18 | slot) under a key of the device's: a slot's old index stops matching as
# soon as it is released, and who sees indices learns neither that they are of one slot nor that they are of one device.

cdef inline uint16_t rotate16(uint16_t word, int left) noexcept nogil:
    return <uint16_t>(word << left | word >> (16 - left))


cdef void speck_schedule(uint16_t* rounds, const uint16_t* key) noexcept nogil:
    """Speck32/64 (Beaulieu and others, 2013). key: 4 words, the last of the paper's first."""
    cdef uint16_t left[SPECK_ROUNDS + 2]
    cdef int i
    rounds[0] = key[0]
    memcpy(left, key + 1, 6)
    for i in range(SPECK_ROUNDS - 1):
        left[i + 3] = <uint16_t>(rounds[i] + rotate16(left[i], 9)) ^ <uint16_t>i
        rounds[i + 1] = rotate16(rounds[i], 2) ^ left[i + 3]


cdef uint32_t speck_encrypt(const uint16_t* rounds, uint32_t block) noexcept nogil:
    cdef uint16_t x = <uint16_t>(block >> 16), y = <uint16_t>block
    cdef int i
    for i in range(SPECK_ROUNDS):
        x = <uint16_t>(rotate16(x, 9) + y) ^ rounds[i]
        y = rotate16(y, 2) ^ x
    return <uint32_t>x << 16 | y


cdef uint32_t speck_decrypt(const uint16_t* rounds, uint32_t block) noexcept nogil:
    cdef uint16_t x = <uint16_t>(block >> 16), y = <uint16_t>block
    cdef int i
    for i in range(SPECK_ROUNDS - 1, -1, -1):
        y = rotate16(x ^ y, 14)
        x = rotate16(<uint16_t>((x ^ rounds[i]) - y), 7)
    return <uint32_t>x << 16 | y


cdef inline uint32_t index_place(const wh_device* dev, uint32_t index) noexcept nogil:
    return speck_decrypt(dev.index_keys, index) & (MAX_INDICES - 1)


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
        index = speck_encrypt(dev.index_keys, randombytes_uniform(1 << 14) << 18 | place)
    entry = &dev.indices[place]
    entry.slot = slot
    wh_store_ptr(&entry.kp, kp)
    wh_store_u32(&entry.index, index)
    return index


cdef void index_release(wh_device* dev, uint32_t index) noexcept nogil:
    cdef uint32_t place = index_place(dev, index)
    cdef index_entry* entry = &dev.indices[place]
    if entry.index != index:
        return
    wh_store_u32(&entry.index, 0)
    wh_store_ptr(&entry.kp, NULL)
    entry.next_free = dev.index_free
    dev.index_free = place + 1


cdef void index_bind(wh_device* dev, uint32_t index, keypair* kp) noexcept nogil:
    wh_store_ptr(&dev.indices[index_place(dev, index)].kp, kp)


cdef inline index_entry* entry_at(wh_device* dev, uint32_t place, uint32_t index) noexcept nogil:
    cdef index_entry* entry = &dev.indices[place]
    return entry if index != 0 and wh_load_u32(&entry.index) == index else NULL


cdef index_entry* index_find(wh_device* dev, uint32_t index) noexcept nogil:
    return entry_at(dev, index_place(dev, index), index)


cdef index_entry* index_find_again(wh_worker* w, uint32_t index) noexcept nogil:
    if index != w.seen_index:
        w.seen_index = index
        w.seen_place = index_place(w.device, index)
    return entry_at(w.device, w.seen_place, index)


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
