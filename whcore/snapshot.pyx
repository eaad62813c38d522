"""What status asks for, copied at one moment: see snapshot.pxd."""

from collections import namedtuple

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from whcore.allowedips cimport allowedips_walk
from whcore.device cimport COUNTERS, KEY_BUCKETS, wh_device, wh_paths, wh_peer
from whcore.kernel cimport pthread_mutex_lock, pthread_mutex_unlock
from whcore.sodium cimport sodium_free, sodium_is_zero, sodium_malloc

PeerStatus = namedtuple(
    "PeerStatus",
    "public_key has_psk path last_handshake_unix_ns rx_bytes tx_bytes rx_packets tx_packets keepalive_s managed "
    "allowed_ips has_session",
)

# In the order of the enum `counters` in device.pxd.
COUNTER_NAMES = (
    "rx_data", "tx_data", "rx_handshake", "tx_handshake", "rx_control", "tx_control", "drop_unknown", "drop_length",
    "drop_index", "drop_auth", "drop_replay", "drop_expired", "drop_inner", "drop_source", "drop_no_peer",
    "drop_stage_full", "drop_stage_old", "drop_queue_full", "drop_mac", "drop_handshake", "drop_tun_write",
    "drop_send", "drop_truncated", "drop_ecn", "drop_offload", "drop_too_big", "drop_loop", "cookie_sent",
    "tx_sends", "rx_receives", "tun_reads", "tun_writes", "duplicated", "forwarded", "drop_forward",
    "drop_unproved", "drop_no_ipv6",
)
assert len(COUNTER_NAMES) == COUNTERS

cdef int64_t SECOND = 1_000_000_000


cdef void note_prefix(const uint8_t* address, int family_bits, int cidr, uint32_t peer, void* context) noexcept nogil:
    cdef prefix_list* found = <prefix_list*>context
    cdef prefix_snapshot* grown
    if found.n == found.room:
        grown = <prefix_snapshot*>realloc(found.items, (found.room * 2 + 64) * sizeof(prefix_snapshot))
        if grown == NULL:
            return
        found.items = grown
        found.room = found.room * 2 + 64
    memcpy(found.items[found.n].address, address, family_bits // 8)
    found.items[found.n].address_len = family_bits // 8
    found.items[found.n].prefix_len = cidr
    found.items[found.n].slot = peer
    found.n += 1


cdef size_t take_snapshot(wh_device* dev, peer_snapshot** peers, prefix_list* prefixes) except? 0:
    cdef size_t n = 0
    prefixes.items = NULL
    prefixes.n = prefixes.room = 0
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        peers[0] = <peer_snapshot*>sodium_malloc((dev.peers.in_use + 1) * sizeof(peer_snapshot))
        if peers[0] != NULL:
            n = snapshot_peers(dev, peers[0])
            allowedips_walk(&dev.allowed, note_prefix, prefixes)
        pthread_mutex_unlock(&dev.control_lock)
    if peers[0] == NULL:
        raise MemoryError
    return n


cdef size_t snapshot_peers(wh_device* dev, peer_snapshot* out) noexcept nogil:
    cdef size_t n = 0
    cdef wh_peer* peer
    cdef int i
    for i in range(KEY_BUCKETS):
        peer = dev.by_key[i]
        while peer != NULL:
            snapshot_peer(peer, &out[n])
            n += 1
            peer = peer.next_in_bucket
    return n


cdef void snapshot_peer(wh_peer* peer, peer_snapshot* out) noexcept nogil:
    cdef wh_paths* paths = peer.paths
    memcpy(out.key, peer.tunnel.remote_static, 32)
    out.slot = peer.slot
    memcpy(out.psk, peer.tunnel.psk, 32)
    out.managed = peer.managed
    out.has_session = peer.tunnel.current != NULL
    out.path_socket = -1
    if paths != NULL:
        out.path_socket = paths.at[0].socket
        memcpy(out.remote, paths.at[0].remote, 18)
        out.link = paths.at[0].link
    out.handshake_ns = peer.tunnel.last_handshake_wall_ns
    out.keepalive_ns = peer.tunnel.persistent_ns
    out.rx_bytes = peer.rx_bytes
    out.tx_bytes = peer.tx_bytes
    out.rx_packets = peer.rx_packets
    out.tx_packets = peer.tx_packets


cdef list peer_statuses(wh_device* dev):
    cdef peer_snapshot* snapshots
    cdef prefix_list prefixes
    cdef size_t n = take_snapshot(dev, &snapshots, &prefixes), i
    try:
        allowed = allowed_by_slot(&prefixes)
        return [status_of(&snapshots[i], allowed.get(snapshots[i].slot, [])) for i in range(n)]
    finally:
        sodium_free(snapshots)
        free(prefixes.items)


cdef dict allowed_by_slot(const prefix_list* prefixes):
    """Peer slot -> [(address bytes, prefix length)]."""
    cdef size_t i
    found = {}
    for i in range(prefixes.n):
        found.setdefault(prefixes.items[i].slot, []).append((
            PyBytes_FromStringAndSize(<char*>prefixes.items[i].address, prefixes.items[i].address_len),
            prefixes.items[i].prefix_len))
    return found


cdef object status_of(peer_snapshot* s, list allowed):
    path = (s.path_socket, PyBytes_FromStringAndSize(<char*>s.remote, 18)) if s.path_socket >= 0 else None
    has_psk = not sodium_is_zero(s.psk, 32)
    return PeerStatus(
        PyBytes_FromStringAndSize(<char*>s.key, 32), has_psk, path, s.handshake_ns, s.rx_bytes, s.tx_bytes,
        s.rx_packets, s.tx_packets, s.keepalive_ns // SECOND, bool(s.managed), sorted(allowed), bool(s.has_session))


cdef dict sum_counters(wh_device* dev):
    cdef int i, j
    cdef uint64_t total
    found = {}
    for i in range(COUNTERS):
        total = dev.timer.counters[i]
        for j in range(dev.worker_count):
            total += dev.workers[j].counters[i]
        found[COUNTER_NAMES[i]] = total
    found["tx_control"] += dev.control_sent
    found["drop_send"] += dev.control_refused
    found["keys_locked"] = int(dev.peers.locked and dev.keypairs.locked)
    return found
