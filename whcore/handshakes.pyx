# cython: auto_pickle=False
"""Tables of control handshakes under way. The contracts are in handshakes.pxd."""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, memset

from whcore.cookie cimport cookie_jar
from whcore.noise cimport noise_handshake
from whcore.sessions cimport ReceiverIndices, SecretSlab

cdef int64_t NS_PER_S = 1000000000
# Tuning. A handshake needs one round trip, and the engine asks again after a second; a request is answered
# within one turn of the event loop.
cdef int64_t IN_FLIGHT_NS = 10 * NS_PER_S
cdef int64_t PENDING_NS = 3 * NS_PER_S
cdef enum:
    IN_FLIGHT_MAX = 1024
    PENDING_MAX = 256


cdef class Initiation:
    pass


cdef class InitiationTable:
    def __cinit__(self, ReceiverIndices indices):
        self.by_peer = {}
        self.indices = indices
        self.slab = SecretSlab(sizeof(noise_handshake))

    cdef Initiation start(self, bytes peer, uint32_t local_index, int64_t now_ns):
        cdef Initiation replaced = self.by_peer.get(peer)
        cdef Initiation initiation = Initiation.__new__(Initiation)
        initiation.peer = peer
        initiation.first_at = now_ns
        initiation.sent_at = now_ns
        memset(&initiation.jar, 0, sizeof(cookie_jar))
        if replaced is not None:
            # A responder under load that gave us a cookie still wants it.
            initiation.jar = replaced.jar
            initiation.first_at = replaced.first_at
            self.forget(replaced)
        elif len(self.by_peer) >= IN_FLIGHT_MAX:
            self.forget(next(iter(self.by_peer.values())))
        initiation.local_index = local_index
        initiation.handshake = <noise_handshake*>self.slab.take()
        self.indices.enter(local_index, initiation)
        self.by_peer[peer] = initiation
        return initiation

    cdef Initiation find(self, uint32_t local_index, int64_t now_ns):
        cdef Initiation initiation
        entry = self.indices.get(local_index)
        if not isinstance(entry, Initiation):
            return None
        initiation = <Initiation>entry
        return initiation if now_ns - initiation.sent_at < IN_FLIGHT_NS else None

    cdef void forget(self, Initiation initiation):
        del self.by_peer[initiation.peer]
        # The index of an answered INIT has become its keypair's.
        if self.indices.get(initiation.local_index) is initiation:
            self.indices.leave(initiation.local_index)
        self.slab.give(initiation.handshake)
        initiation.handshake = NULL

    cdef void forget_peer(self, bytes peer):
        if peer in self.by_peer:
            self.forget(self.by_peer[peer])

    cdef void expire(self, int64_t now_ns):
        cdef Initiation initiation
        for initiation in list(self.by_peer.values()):
            if now_ns - initiation.sent_at >= IN_FLIGHT_NS:
                self.forget(initiation)

    cdef void close(self):
        for initiation in list(self.by_peer.values()):
            self.forget(initiation)
        self.slab.close()


cdef class PendingRequest:
    pass


cdef bint is_stale(PendingRequest request, int64_t now_ns):
    return now_ns - request.arrived_at >= PENDING_NS


cdef class PendingTable:
    def __cinit__(self):
        self.by_handle = {}
        self.next_handle = 1
        self.slab = SecretSlab(sizeof(noise_handshake))

    cdef object add(self, const noise_handshake* handshake, bytes peer, uint32_t remote_index,
                    size_t plaintext_max, int64_t now_ns):
        cdef PendingRequest request = PendingRequest.__new__(PendingRequest)
        if len(self.by_handle) >= PENDING_MAX:
            self.forget(next(iter(self.by_handle)))
        request.peer = peer
        request.handshake = <noise_handshake*>self.slab.take()
        memcpy(request.handshake, handshake, sizeof(noise_handshake))
        request.remote_index = remote_index
        request.plaintext_max = plaintext_max
        request.arrived_at = now_ns
        handle = self.next_handle
        self.next_handle += 1
        self.by_handle[handle] = request
        return handle

    cdef void forget(self, handle):
        cdef PendingRequest request = self.by_handle.pop(handle)
        self.slab.give(request.handshake)
        request.handshake = NULL

    cdef void forget_peer(self, bytes peer):
        cdef PendingRequest request
        for handle, request in list(self.by_handle.items()):
            if request.peer == peer:
                self.forget(handle)

    cdef void expire(self, int64_t now_ns):
        cdef PendingRequest request
        for handle, request in list(self.by_handle.items()):
            if is_stale(request, now_ns):
                self.forget(handle)

    cdef void close(self):
        for handle in list(self.by_handle):
            self.forget(handle)
        self.slab.close()
