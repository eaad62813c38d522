"""Control handshakes that are under way: our INITs in flight and the requests not answered yet. Both bounded.

One thread owns a table, times are monotonic ns.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t

from whcore.cookie cimport cookie_jar
from whcore.noise cimport noise_handshake
from whcore.sessions cimport ReceiverIndices, SecretSlab


@cython.final
cdef class Initiation:
    """Our INIT in flight."""
    cdef bytes peer
    cdef noise_handshake* handshake     # NULL once forgotten
    cdef uint32_t local_index
    cdef cookie_jar jar
    cdef bytes datagram                 # without mac1 and mac2
    cdef int64_t first_at               # of this INIT and those that it replaced
    cdef int64_t sent_at


@cython.final
cdef class InitiationTable:
    """At most one INIT in flight a peer; the oldest gives way."""
    cdef dict by_peer                   # oldest first
    cdef ReceiverIndices indices        # shared with the session table
    cdef SecretSlab slab

    # Enters it under local_index; takes the place and the cookie of one in flight to the same peer.
    cdef Initiation start(self, bytes peer, uint32_t local_index, int64_t now_ns)
    # None where nothing young enough has that index.
    cdef Initiation find(self, uint32_t local_index, int64_t now_ns)
    cdef void forget(self, Initiation initiation)
    cdef void forget_peer(self, bytes peer)
    cdef void expire(self, int64_t now_ns)
    cdef void close(self)


@cython.final
cdef class PendingRequest:
    """A request that came in an INIT, and what its RESP needs."""
    cdef bytes peer
    cdef noise_handshake* handshake     # NULL once forgotten
    cdef uint32_t remote_index
    cdef size_t plaintext_max           # of the RESP, so that it is not longer than the INIT
    cdef int64_t arrived_at


@cython.final
cdef class PendingTable:
    """Requests by handle; the oldest gives way."""
    cdef dict by_handle                 # oldest first
    cdef object next_handle
    cdef SecretSlab slab

    # Copies *handshake. Returns the handle.
    cdef object add(self, const noise_handshake* handshake, bytes peer, uint32_t remote_index,
                    size_t plaintext_max, int64_t now_ns)
    cdef void forget(self, handle)
    cdef void forget_peer(self, bytes peer)
    cdef void expire(self, int64_t now_ns)
    cdef void close(self)


cdef bint is_stale(PendingRequest request, int64_t now_ns)
