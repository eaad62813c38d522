"""What is kept of control peers: memory for secrets, keypairs, sessions, timestamps. All of it bounded.

Nothing here locks or reads a clock: one thread owns a table, times are monotonic ns.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from whcore.replay cimport replay_window
from whcore.sieve cimport ControlSieve


@cython.final
cdef class SecretSlab:
    """Items of one size in sodium_malloc chunks: guarded, locked where that works, not in core dumps."""
    cdef size_t item_size
    cdef void* chunks               # chained by their first word
    cdef void* free_items           # chained likewise

    cdef void* take(self) except NULL   # zeroed
    cdef void give(self, void* item) noexcept
    cdef void close(self) noexcept      # wipes and frees all items
    cdef int grow(self) except -1


cdef struct transport_keys:
    uint8_t sending[32]
    uint8_t receiving[32]


@cython.final
cdef class Keypair:
    cdef bytes peer
    cdef transport_keys* keys       # NULL once discarded
    cdef uint8_t[32] handshake_hash # no secret: what claims of aliases are bound to
    cdef uint32_t local_index
    cdef uint32_t remote_index
    cdef bint initiator             # we were
    cdef uint64_t sent              # the next counter
    cdef replay_window received
    cdef int64_t created_at
    cdef int64_t expires_at


# Who is evicted first when the table is full.
cdef enum session_rank:
    RANK_UNCONFIRMED                # anybody may have caused it, from any address
    RANK_CONFIRMED
    RANK_EXEMPT                     # a key of the network file
    RANKS


@cython.final
cdef class Session:
    cdef bytes peer
    cdef Keypair current
    cdef Keypair previous           # opens what was under way at a rekey, seals nothing
    cdef Keypair next               # we responded; waits for a DATA under it
    cdef int64_t used_at
    cdef session_rank rank


@cython.final
cdef class ReceiverIndices:
    """Whose receiver index it is: a Keypair's, or that of an INIT in flight. The sieve hears of each."""
    cdef dict owners
    cdef ControlSieve sieve

    # A random index that nothing uses. The caller enters its owner.
    cdef uint32_t fresh(self)
    # Also where the index has an owner, which it replaces.
    cdef void enter(self, uint32_t index, object owner)
    cdef object get(self, uint32_t index)   # None: nobody's
    cdef void leave(self, uint32_t index)


@cython.final
cdef class SessionTable:
    cdef size_t max_sessions
    cdef dict by_peer
    cdef ReceiverIndices indices
    cdef tuple orders               # of each rank: peer -> Session, least recently used first
    cdef frozenset exempt
    cdef SecretSlab slab

    # A keypair with empty keys, its index entered; install it next.
    cdef Keypair new_keypair(self, bytes peer, uint32_t local_index, uint32_t remote_index, bint initiator,
                             int64_t now_ns)
    cdef void install_initiated(self, Keypair keypair, int64_t now_ns)
    cdef void install_responded(self, Keypair keypair, int64_t now_ns)
    # A message opened under keypair: True if that made `next` the current one.
    cdef bint note_opened(self, Keypair keypair, int64_t now_ns)
    cdef void touch(self, Session session, int64_t now_ns)
    cdef void remove(self, bytes peer)
    cdef void expire(self, int64_t now_ns)
    cdef void set_exempt(self, frozenset keys)
    cdef void close(self)
    # Internal.
    cdef session_rank rank_of(self, Session session)
    cdef bint rerank(self, Session session)
    cdef Session session_of(self, bytes peer)
    cdef void evict(self)
    cdef void retire(self, Session session, Keypair keypair, int64_t now_ns)
    cdef Keypair unless_expired(self, Keypair keypair, int64_t now_ns)
    cdef void discard(self, Keypair keypair)


@cython.final
cdef class TimestampTable:
    """The greatest TAI64N accepted of each key: of strangers in a bounded table, of exempt keys for good."""
    cdef size_t max_strangers
    cdef object strangers           # key -> 12 bytes, oldest acceptance first
    cdef dict trusted
    cdef frozenset exempt

    # True, and remembered, if it exceeds the last accepted one.
    cdef bint accept(self, bytes peer, bytes timestamp)
    cdef void set_exempt(self, frozenset keys)
    cdef void bound(self)
