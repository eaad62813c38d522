"""One peer as Datapath changes it: see peer_control.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from whcore.alias cimport hkdf_expand, hkdf_extract, hkdf_work
from whcore.allowedips cimport (
    allowedips_insert, allowedips_node, allowedips_remove, allowedips_remove_peer, allowedips_take_retired,
)
from whcore.device cimport (
    RETIRED_ALLOWEDIPS, peer_add, peer_check_at, peer_find, peer_remove, reclaim, retire_later, wh_device, wh_paths,
    wh_peer,
)
from whcore.errors cimport WH_OK, raise_rc
from whcore.handshaker cimport peer_initiate
from whcore.kernel cimport (
    eventfd_write, pthread_mutex_lock, pthread_mutex_unlock, wh_exchange_u32, wh_load_i64, wh_load_u32, wh_now_ns,
    wh_store_i64,
)
from whcore.peer_paths cimport peer_heard, peer_set_paths
from whcore.sending cimport peer_flush
from whcore.sodium cimport sodium_memzero

from whcore.keys import check_public_key

cdef bytes PSK_INFO = b"wirehub wireguard psk"

cdef struct prefix_of:
    const uint8_t* address
    int bits
    int length


cdef int with_peer(wh_device* dev, bytes public_key, peer_change change, const void* argument) except? -1:
    cdef wh_peer* peer = NULL
    cdef const uint8_t* key = public_key
    cdef int rc = WH_OK
    if len(public_key) == 32:
        with nogil:
            pthread_mutex_lock(&dev.control_lock)
            peer = peer_find(dev, key)
            if peer != NULL:
                rc = change(dev, peer, argument)
            pthread_mutex_unlock(&dev.control_lock)
    if peer == NULL:        # the pointer says no more than this: without the lock it may be dangling
        raise KeyError(public_key)
    return rc


cdef bint is_peer(wh_device* dev, bytes public_key) except -1:
    cdef const uint8_t* key = public_key
    cdef bint found
    if len(public_key) != 32:
        raise KeyError(public_key)
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        found = peer_find(dev, key) != NULL
        pthread_mutex_unlock(&dev.control_lock)
    return found


cdef int new_peer(wh_device* dev, bytes public_key, bint managed, const uint8_t* psk) except -1:
    cdef const uint8_t* key = public_key
    cdef wh_peer* peer = NULL
    cdef bint taken
    check_public_key(public_key)
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        taken = peer_find(dev, key) != NULL
        if not taken:
            peer = peer_add(dev, key, managed)
            if peer != NULL:
                memcpy(peer.tunnel.psk, psk, 32)
        pthread_mutex_unlock(&dev.control_lock)
    if taken:
        raise ValueError("the peer exists")
    if peer == NULL:
        raise MemoryError("too many peers")
    return 0


cdef int derive_psk(uint8_t* psk, bytes network_secret, bytes one, bytes other) except -1:
    cdef hkdf_work work
    cdef bytes info = PSK_INFO + min(one, other) + max(one, other)
    if len(network_secret) != 32:
        raise ValueError(f"a network secret has 32 bytes, not {len(network_secret)}")
    hkdf_extract(work.extracted, network_secret, 32)
    hkdf_expand(&work, info, len(info))
    memcpy(psk, work.output, 32)
    sodium_memzero(&work, sizeof(work))
    return 0


cdef int drop_peer(wh_device* dev, bytes public_key) except -1:
    with_peer(dev, public_key, remove, NULL)
    eventfd_write(dev.kick_fd, 1)
    return 0


cdef int remove(wh_device* dev, wh_peer* peer, const void* unused) noexcept nogil:
    peer_remove(dev, peer)
    reclaim(dev, False)
    return WH_OK


cdef int set_psk(wh_device* dev, bytes public_key, const uint8_t* psk) except -1:
    return with_peer(dev, public_key, copy_psk, psk)


cdef int copy_psk(wh_device* dev, wh_peer* peer, const void* psk) noexcept nogil:
    memcpy(peer.tunnel.psk, psk, 32)
    return WH_OK


cdef int change_keepalive(wh_device* dev, bytes public_key, int64_t interval_ns) except -1:
    return with_peer(dev, public_key, set_interval, &interval_ns)


cdef int set_interval(wh_device* dev, wh_peer* peer, const void* argument) noexcept nogil:
    cdef int64_t interval_ns = (<const int64_t*>argument)[0]
    cdef bint newly = interval_ns != 0 and wh_load_i64(&peer.tunnel.persistent_ns) == 0
    cdef int64_t now = wh_now_ns()
    wh_store_i64(&peer.tunnel.persistent_ns, interval_ns)
    if newly:
        wh_store_i64(&peer.tunnel.persistent_at, now)
        peer_check_at(dev, peer, now)
    return WH_OK


cdef int adopt_paths(wh_device* dev, bytes public_key, wh_paths* fresh) except -1:
    try:
        return with_peer(dev, public_key, publish_paths, fresh)
    except BaseException:
        free(fresh)
        raise


cdef int publish_paths(wh_device* dev, wh_peer* peer, const void* fresh) noexcept nogil:
    peer_set_paths(dev, peer, <wh_paths*>fresh)
    # What waited for a path was to be looked at again in a second; now is better.
    peer.path_wanted_at = 0
    wh_exchange_u32(&peer.handshake_wanted, 0)
    if fresh != NULL and wh_load_u32(&peer.staged):
        peer_flush(&dev.timer, peer, wh_now_ns())
    return WH_OK


cdef int end_silence(wh_device* dev, bytes public_key) except -1:
    return with_peer(dev, public_key, hear, NULL)


cdef int hear(wh_device* dev, wh_peer* peer, const void* unused) noexcept nogil:
    peer_heard(peer)
    return WH_OK


cdef int start_handshake(wh_device* dev, bytes public_key) except -1:
    return with_peer(dev, public_key, initiate, NULL)


cdef int initiate(wh_device* dev, wh_peer* peer, const void* unused) noexcept nogil:
    peer_initiate(dev, peer, True, wh_now_ns())
    return WH_OK


cdef int count_received(wh_device* dev, bytes public_key, uint64_t* packets) except -1:
    return with_peer(dev, public_key, read_received, packets)


cdef int read_received(wh_device* dev, wh_peer* peer, const void* packets) noexcept nogil:
    (<uint64_t*>packets)[0] = peer.rx_packets
    return WH_OK


# --- allowed-IPs ----------------------------------------------------------------------------------------------------


cdef int allow_prefix(wh_device* dev, bytes public_key, bytes address, int prefix_len) except -1:
    cdef prefix_of prefix = checked_prefix(address, prefix_len)
    cdef int rc = with_peer(dev, public_key, insert_prefix, &prefix)
    if rc != WH_OK:
        raise_rc(rc, "allowed-ips")
    return 0


cdef int disallow_prefix(wh_device* dev, bytes public_key, bytes address, int prefix_len) except -1:
    cdef prefix_of prefix = checked_prefix(address, prefix_len)
    if with_peer(dev, public_key, remove_prefix, &prefix) != WH_OK:
        raise KeyError((address, prefix_len))
    return 0


cdef int disallow_all(wh_device* dev, bytes public_key) except -1:
    return with_peer(dev, public_key, remove_prefixes, NULL)


cdef prefix_of checked_prefix(bytes address, int prefix_len) except *:
    """Good for as long as the address is."""
    cdef prefix_of prefix
    prefix.address = address
    prefix.bits = 8 * <int>len(address)
    prefix.length = prefix_len
    if (prefix.bits != 32 and prefix.bits != 128) or not 0 <= prefix_len <= prefix.bits:
        raise ValueError("an address has 4 or 16 bytes, and a prefix no more bits than it")
    return prefix


cdef int insert_prefix(wh_device* dev, wh_peer* peer, const void* argument) noexcept nogil:
    cdef const prefix_of* prefix = <const prefix_of*>argument
    cdef int rc = allowedips_insert(&dev.allowed, prefix.address, prefix.bits, prefix.length, peer.slot)
    settle_allowed(dev)
    return rc


cdef int remove_prefix(wh_device* dev, wh_peer* peer, const void* argument) noexcept nogil:
    cdef const prefix_of* prefix = <const prefix_of*>argument
    cdef int rc = allowedips_remove(&dev.allowed, prefix.address, prefix.bits, prefix.length, peer.slot)
    settle_allowed(dev)
    return rc


cdef int remove_prefixes(wh_device* dev, wh_peer* peer, const void* unused) noexcept nogil:
    allowedips_remove_peer(&dev.allowed, peer.slot)
    settle_allowed(dev)
    return WH_OK


cdef void settle_allowed(wh_device* dev) noexcept nogil:
    """Free unlinked trie nodes once no worker can be on them."""
    cdef allowedips_node* chain = allowedips_take_retired(&dev.allowed)
    if chain != NULL:
        retire_later(dev, RETIRED_ALLOWEDIPS, chain, -1)
    reclaim(dev, False)
