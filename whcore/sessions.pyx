# cython: auto_pickle=False
"""Sessions of the control channel as docs/protocol.md section 2 keeps them. Contracts are in sessions.pxd."""

from collections import OrderedDict

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

from whcore.replay cimport replay_reset
from whcore.sieve cimport ControlSieve
from whcore.sodium cimport randombytes_buf, sodium_free, sodium_malloc, sodium_memzero

cdef int64_t NS_PER_S = 1000000000
# docs/protocol.md section 2.
cdef int64_t OLD_KEYS_NS = 60 * NS_PER_S
cdef int64_t IDLE_NS = 600 * NS_PER_S
# The initiator rekeys after 30 min; what is 10 min late (the idle limit) never will.
cdef int64_t REJECT_AFTER_NS = 2400 * NS_PER_S

# A chunk of a slab: four pages, beside the three that sodium_malloc guards it with.
cdef enum:
    ITEM_ALIGNMENT = 16
    CHUNK_LEN = 16384


cdef class SecretSlab:
    def __cinit__(self, size_t item_size):
        self.item_size = (item_size + ITEM_ALIGNMENT - 1) // ITEM_ALIGNMENT * ITEM_ALIGNMENT
        self.chunks = NULL
        self.free_items = NULL

    def __dealloc__(self):
        self.close()

    cdef void* take(self) except NULL:
        if self.free_items == NULL:
            self.grow()
        cdef void* item = self.free_items
        self.free_items = (<void**>item)[0]
        memset(item, 0, self.item_size)
        return item

    cdef void give(self, void* item) noexcept:
        sodium_memzero(item, self.item_size)
        (<void**>item)[0] = self.free_items
        self.free_items = item

    cdef int grow(self) except -1:
        cdef size_t count = (CHUNK_LEN - ITEM_ALIGNMENT) // self.item_size
        cdef size_t i
        cdef uint8_t* chunk = <uint8_t*>sodium_malloc(ITEM_ALIGNMENT + count * self.item_size)
        if chunk == NULL:
            raise MemoryError("no memory for secrets")
        (<void**>chunk)[0] = self.chunks
        self.chunks = chunk
        for i in range(count):
            self.give(chunk + ITEM_ALIGNMENT + i * self.item_size)
        return 0

    cdef void close(self) noexcept:
        cdef void* chunk = self.chunks
        cdef void* following
        while chunk != NULL:
            following = (<void**>chunk)[0]
            sodium_free(chunk)
            chunk = following
        self.chunks = NULL
        self.free_items = NULL


cdef class Keypair:
    pass


cdef class Session:
    pass


cdef class ReceiverIndices:
    def __cinit__(self, ControlSieve sieve):
        self.owners = {}
        self.sieve = sieve

    cdef uint32_t fresh(self):
        cdef uint32_t index
        while True:
            randombytes_buf(&index, sizeof(index))
            if index not in self.owners:
                return index

    cdef void enter(self, uint32_t index, object owner):
        if index not in self.owners:
            self.sieve.enter(index)
        self.owners[index] = owner

    cdef object get(self, uint32_t index):
        return self.owners.get(index)

    cdef void leave(self, uint32_t index):
        del self.owners[index]
        self.sieve.leave(index)


cdef class SessionTable:
    def __cinit__(self, size_t max_sessions, ReceiverIndices indices):
        self.max_sessions = max_sessions
        self.by_peer = {}
        self.indices = indices
        self.orders = tuple([OrderedDict() for _ in range(RANKS)])
        self.exempt = frozenset()
        self.slab = SecretSlab(sizeof(transport_keys))

    cdef Keypair new_keypair(self, bytes peer, uint32_t local_index, uint32_t remote_index, bint initiator,
                             int64_t now_ns):
        cdef Keypair keypair = Keypair.__new__(Keypair)
        keypair.keys = <transport_keys*>self.slab.take()
        keypair.peer = peer
        keypair.local_index = local_index
        keypair.remote_index = remote_index
        keypair.initiator = initiator
        keypair.sent = 0
        replay_reset(&keypair.received)
        keypair.created_at = now_ns
        keypair.expires_at = now_ns + REJECT_AFTER_NS
        self.indices.enter(local_index, keypair)
        return keypair

    cdef void install_initiated(self, Keypair keypair, int64_t now_ns):
        cdef Session session = self.session_of(keypair.peer)
        cdef Keypair replaced = session.current
        if session.next is not None:
            # The peer initiated these and may send under them; under anything older it does not any more.
            self.discard(session.current)
            replaced = session.next
            session.next = None
        self.retire(session, replaced, now_ns)
        session.current = keypair
        self.touch(session, now_ns)

    cdef void install_responded(self, Keypair keypair, int64_t now_ns):
        cdef Session session = self.session_of(keypair.peer)
        self.discard(session.next)
        session.next = keypair
        self.touch(session, now_ns)

    cdef bint note_opened(self, Keypair keypair, int64_t now_ns):
        cdef Session session = self.by_peer[keypair.peer]
        cdef bint confirmed = keypair is session.next
        if confirmed:
            self.retire(session, session.current, now_ns)
            session.current = keypair
            session.next = None
        self.touch(session, now_ns)
        return confirmed

    cdef void touch(self, Session session, int64_t now_ns):
        session.used_at = now_ns
        if not self.rerank(session):
            self.orders[session.rank].move_to_end(session.peer)

    cdef void remove(self, bytes peer):
        cdef Session session = self.by_peer.pop(peer, None)
        if session is None:
            return
        self.orders[session.rank].pop(peer)
        self.discard(session.current)
        self.discard(session.previous)
        self.discard(session.next)

    cdef void expire(self, int64_t now_ns):
        cdef Session session
        for session in list(self.by_peer.values()):
            session.previous = self.unless_expired(session.previous, now_ns)
            session.current = self.unless_expired(session.current, now_ns)
            session.next = self.unless_expired(session.next, now_ns)
            if now_ns - session.used_at >= IDLE_NS or (session.current is None and session.next is None):
                self.remove(session.peer)

    cdef void set_exempt(self, frozenset keys):
        cdef Session session
        self.exempt = keys
        for session in self.by_peer.values():
            self.rerank(session)

    cdef void close(self):
        for peer in list(self.by_peer):
            self.remove(peer)
        self.slab.close()

    cdef session_rank rank_of(self, Session session):
        if session.peer in self.exempt:
            return RANK_EXEMPT
        return RANK_CONFIRMED if session.current is not None else RANK_UNCONFIRMED

    cdef bint rerank(self, Session session):
        cdef session_rank rank = self.rank_of(session)
        if rank == session.rank:
            return False
        self.orders[session.rank].pop(session.peer)
        session.rank = rank
        self.orders[rank][session.peer] = session
        return True

    cdef Session session_of(self, bytes peer):
        cdef Session session = self.by_peer.get(peer)
        if session is None:
            if <size_t>len(self.by_peer) >= self.max_sessions:
                self.evict()
            session = Session.__new__(Session)
            session.peer = peer
            session.rank = self.rank_of(session)
            self.by_peer[peer] = session
            self.orders[session.rank][peer] = session
        return session

    cdef void evict(self):
        for order in self.orders:
            if order:
                self.remove(next(iter(order)))
                return

    cdef void retire(self, Session session, Keypair keypair, int64_t now_ns):
        self.discard(session.previous)
        session.previous = keypair
        if keypair is not None:
            keypair.expires_at = min(keypair.expires_at, now_ns + OLD_KEYS_NS)

    cdef Keypair unless_expired(self, Keypair keypair, int64_t now_ns):
        if keypair is not None and now_ns >= keypair.expires_at:
            self.discard(keypair)
            return None
        return keypair

    cdef void discard(self, Keypair keypair):
        if keypair is not None:
            self.indices.leave(keypair.local_index)
            self.slab.give(keypair.keys)
            keypair.keys = NULL


cdef class TimestampTable:
    def __cinit__(self, size_t max_strangers):
        self.max_strangers = max_strangers
        self.strangers = OrderedDict()
        self.trusted = {}
        self.exempt = frozenset()

    cdef bint accept(self, bytes peer, bytes timestamp):
        table = self.trusted if peer in self.exempt else self.strangers
        # Big-endian, so they compare as bytes.
        last = table.get(peer)
        if last is not None and timestamp <= last:
            return False
        table[peer] = timestamp
        if table is self.strangers:
            self.strangers.move_to_end(peer)
            self.bound()
        return True

    cdef void set_exempt(self, frozenset keys):
        self.exempt = keys
        for peer in list(self.trusted):
            if peer not in keys:
                self.strangers[peer] = self.trusted.pop(peer)
        for peer in keys:
            if peer in self.strangers:
                self.trusted[peer] = self.strangers.pop(peer)
        self.bound()

    cdef void bound(self):
        while <size_t>len(self.strangers) > self.max_strangers:
            self.strangers.popitem(last=False)
