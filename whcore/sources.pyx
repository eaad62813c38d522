"""The sources of data as Python sees and judges them: see sources.pxd."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from whcore.device cimport KEY_BUCKETS, MAX_DATAGRAM, MAX_SOCKETS, wh_device, wh_paths, wh_peer
from whcore.errors cimport WH_OK
from whcore.kernel cimport pthread_mutex_lock, pthread_mutex_unlock, wh_load_ptr
from whcore.peer_control cimport with_peer
from whcore.peer_paths cimport peer_forget_source, peer_refuse_sources
from whcore.udp cimport wh_source
from whcore.upcalls cimport source_bytes, source_of

cdef struct found_source:
    uint8_t key[32]
    uint8_t remote[18]
    wh_source source

cdef struct refused_pair:
    wh_source at[2]


cdef list known_sources(wh_device* dev):
    cdef found_source* found
    cdef size_t n = 0, i
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        found = <found_source*>malloc((2 * dev.peers.in_use + 1) * sizeof(found_source))
        if found != NULL:
            n = collect(dev, found)
        pthread_mutex_unlock(&dev.control_lock)
    if found == NULL:
        raise MemoryError
    try:
        return [
            (PyBytes_FromStringAndSize(<char*>found[i].key, 32), PyBytes_FromStringAndSize(<char*>found[i].remote, 18),
             source_bytes(&found[i].source))
            for i in range(n)
        ]
    finally:
        free(found)


cdef size_t collect(wh_device* dev, found_source* out) noexcept nogil:
    cdef wh_peer* peer
    cdef wh_paths* paths
    cdef size_t n = 0
    cdef int bucket, i
    for bucket in range(KEY_BUCKETS):
        peer = dev.by_key[bucket]
        while peer != NULL:
            paths = <wh_paths*>wh_load_ptr(&peer.paths)
            for i in range(paths.n if paths != NULL else 0):
                if paths.at[i].source.known:
                    memcpy(out[n].key, peer.tunnel.remote_static, 32)
                    memcpy(out[n].remote, paths.at[i].remote, 18)
                    out[n].source = paths.at[i].source
                    n += 1
            peer = peer.next_in_bucket
    return n


cdef int refuse_sources(wh_device* dev, bytes public_key, object sources) except -1:
    cdef refused_pair refused
    cdef int i
    memset(&refused, 0, sizeof(refused))
    if len(sources) > 2:
        raise ValueError("a peer has at most two paths")
    for i in range(len(sources)):
        refused.at[i] = source_of(sources[i])
    return with_peer(dev, public_key, refuse, &refused)


cdef int refuse(wh_device* dev, wh_peer* peer, const void* argument) noexcept nogil:
    peer_refuse_sources(dev, peer, (<const refused_pair*>argument).at)
    return WH_OK


cdef int forget_sources_of(wh_device* dev, bytes public_key) except -1:
    return with_peer(dev, public_key, forget, NULL)


cdef int forget(wh_device* dev, wh_peer* peer, const void* unused) noexcept nogil:
    peer_forget_source(dev, peer)
    return WH_OK


cdef void forget_all_sources(wh_device* dev) noexcept nogil:
    cdef wh_source none[2]
    cdef wh_peer* peer
    cdef int bucket
    memset(none, 0, sizeof(none))
    for bucket in range(KEY_BUCKETS):
        peer = dev.by_key[bucket]
        while peer != NULL:
            peer_refuse_sources(dev, peer, none)
            peer_forget_source(dev, peer)
            peer = peer.next_in_bucket


cdef void retry_segments(wh_device* dev) noexcept nogil:
    cdef int i
    for i in range(MAX_SOCKETS):
        if dev.sockets[i].segment_limit:
            dev.sockets[i].segment_limit = MAX_DATAGRAM
