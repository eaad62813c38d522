"""Longest-prefix-match tries, one an address family: inner address -> peer index.

Each is a binary radix trie with path compression: a node stands for a prefix, either one that was inserted or
the point where two of them part, so n prefixes need less than 2n nodes and a lookup visits as many nodes as
prefixes nest on its path. There is one writer; readers take no lock. A node is complete before the release
store that links it, its children stay in place when it is unlinked (a reader may stand on it), and the owner
frees it later.
"""

cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from whcore.errors cimport WH_E_LENGTH, WH_E_MEMORY, WH_E_STATE, WH_OK, raise_rc

cdef extern from *:
    enum:
        __ATOMIC_ACQUIRE
        __ATOMIC_RELAXED
        __ATOMIC_RELEASE
    allowedips_node* load_node "__atomic_load_n"(allowedips_node** slot, int order) nogil
    void store_node "__atomic_store_n"(allowedips_node** slot, allowedips_node* node, int order) nogil
    uint32_t load_peer "__atomic_load_n"(uint32_t* peer, int order) nogil
    void store_peer "__atomic_store_n"(uint32_t* peer, uint32_t value, int order) nogil
    int count_leading_zeros "__builtin_clzll"(unsigned long long word) nogil    # word: not 0

cdef enum:
    IPV4_BITS = 32
    IPV6_BITS = 128
    WORD_BITS = 64

cdef struct prefix_bits:            # an address, its first bit the top bit of high; IPv4 leaves the rest zero
    uint64_t high
    uint64_t low

cdef struct allowedips_node:
    prefix_bits prefix              # zero beyond cidr
    prefix_bits mask
    allowedips_node* child[2]       # by the first bit after the prefix
    allowedips_node* retired_next
    uint32_t peer                   # ALLOWEDIPS_NONE: only a point where prefixes part
    int cidr


# --- bits -------------------------------------------------------------------------------------------------

cdef inline uint64_t load_be(const uint8_t* data, int n) noexcept nogil:
    """n (at most 8) bytes, the first one on top."""
    cdef uint64_t word = 0
    cdef int i
    for i in range(n):
        word |= <uint64_t>data[i] << (56 - 8 * i)
    return word


cdef inline void load_address(prefix_bits* bits, const uint8_t* address, int family_bits) noexcept nogil:
    if family_bits == IPV4_BITS:
        bits.high = load_be(address, 4)
        bits.low = 0
    else:
        bits.high = load_be(address, 8)
        bits.low = load_be(address + 8, 8)


cdef void store_address(uint8_t* address, const prefix_bits* bits) noexcept nogil:
    """All 16 bytes; the first 4 are those of an IPv4 address."""
    cdef int i
    for i in range(8):
        address[i] = <uint8_t>(bits.high >> (56 - 8 * i))
        address[8 + i] = <uint8_t>(bits.low >> (56 - 8 * i))


cdef inline uint64_t word_mask(int bits) noexcept nogil:
    """The top `bits` bits, which may be below 0 or over 64."""
    if bits <= 0:
        return 0
    return ~<uint64_t>0 << (WORD_BITS - bits) if bits < WORD_BITS else ~<uint64_t>0


cdef inline int bit_at(const prefix_bits* bits, int index) noexcept nogil:
    if index < WORD_BITS:
        return <int>(bits.high >> (WORD_BITS - 1 - index) & 1)
    return <int>(bits.low >> (2 * WORD_BITS - 1 - index) & 1)


cdef inline int common_bits(const prefix_bits* a, const prefix_bits* b) noexcept nogil:
    if a.high != b.high:
        return count_leading_zeros(a.high ^ b.high)
    if a.low != b.low:
        return WORD_BITS + count_leading_zeros(a.low ^ b.low)
    return 2 * WORD_BITS


cdef inline bint covers(const allowedips_node* node, const prefix_bits* bits) noexcept nogil:
    return (
        ((node.prefix.high ^ bits.high) & node.mask.high) == 0
        and ((node.prefix.low ^ bits.low) & node.mask.low) == 0
    )


# --- nodes ------------------------------------------------------------------------------------------------

cdef allowedips_node* new_node(const prefix_bits* bits, int cidr, uint32_t peer) noexcept nogil:
    cdef allowedips_node* node = <allowedips_node*>calloc(1, sizeof(allowedips_node))
    if node == NULL:
        return NULL
    node.mask.high = word_mask(cidr)
    node.mask.low = word_mask(cidr - WORD_BITS)
    node.prefix.high = bits.high & node.mask.high
    node.prefix.low = bits.low & node.mask.low
    node.peer = peer
    node.cidr = cidr
    return node


cdef allowedips_node** root_of(allowedips_table* table, int family_bits) noexcept nogil:
    """NULL for what is no family."""
    if family_bits == IPV4_BITS:
        return &table.root4
    if family_bits == IPV6_BITS:
        return &table.root6
    return NULL


cdef void collapse(allowedips_table* table, allowedips_node** slot) noexcept nogil:
    """Take the node out of its slot if it holds no peer and parts no prefixes; its only child moves up."""
    cdef allowedips_node* node = slot[0]
    if node.peer != ALLOWEDIPS_NONE or (node.child[0] != NULL and node.child[1] != NULL):
        return
    store_node(slot, node.child[0] if node.child[0] != NULL else node.child[1], __ATOMIC_RELEASE)
    node.retired_next = table.retired
    table.retired = node


cdef void forget_peer(allowedips_table* table, allowedips_node* node) noexcept nogil:
    store_peer(&node.peer, ALLOWEDIPS_NONE, __ATOMIC_RELAXED)
    table.count -= 1


# --- the table --------------------------------------------------------------------------------------------

cdef void allowedips_init(allowedips_table* table) noexcept nogil:
    """An empty table."""
    table.root4 = NULL
    table.root6 = NULL
    table.retired = NULL
    table.count = 0


cdef int link_beside(allowedips_node** slot, allowedips_node* node) noexcept nogil:
    """Put node into a slot whose node does not cover it: above that one, or beside it under a new node."""
    cdef allowedips_node* there = slot[0]
    cdef allowedips_node* top = node
    cdef int shared
    if there != NULL:
        shared = min(common_bits(&there.prefix, &node.prefix), node.cidr)
        if shared < node.cidr:
            top = new_node(&node.prefix, shared, ALLOWEDIPS_NONE)
            if top == NULL:
                return WH_E_MEMORY
            top.child[bit_at(&node.prefix, shared)] = node
        top.child[bit_at(&there.prefix, shared)] = there
    store_node(slot, top, __ATOMIC_RELEASE)
    return WH_OK


cdef int allowedips_insert(allowedips_table* table, const uint8_t* address, int family_bits, int cidr,
                           uint32_t peer) noexcept nogil:
    """Give a prefix to peer (any but ALLOWEDIPS_NONE). WH_OK, WH_E_LENGTH, WH_E_STATE; WH_E_MEMORY
    leaves the table unchanged."""
    cdef allowedips_node** slot = root_of(table, family_bits)
    cdef allowedips_node* node
    cdef prefix_bits bits
    if slot == NULL or not 0 <= cidr <= family_bits:
        return WH_E_LENGTH
    if peer == ALLOWEDIPS_NONE:
        return WH_E_STATE
    load_address(&bits, address, family_bits)
    while slot[0] != NULL and slot[0].cidr <= cidr and covers(slot[0], &bits):
        node = slot[0]
        if node.cidr == cidr:
            table.count += node.peer == ALLOWEDIPS_NONE
            store_peer(&node.peer, peer, __ATOMIC_RELAXED)
            return WH_OK
        slot = &node.child[bit_at(&bits, node.cidr)]
    node = new_node(&bits, cidr, peer)
    if node == NULL or link_beside(slot, node) != WH_OK:
        free(node)
        return WH_E_MEMORY
    table.count += 1
    return WH_OK


cdef int remove_below(allowedips_table* table, allowedips_node** slot, const prefix_bits* bits, int cidr,
                      uint32_t peer) noexcept nogil:
    """Recursive, at most one level a bit; collapses the path behind itself."""
    cdef allowedips_node* node = slot[0]
    cdef int rc
    if node == NULL or node.cidr > cidr or not covers(node, bits):
        return WH_E_STATE
    if node.cidr == cidr:
        if node.peer != peer:
            return WH_E_STATE
        forget_peer(table, node)
    else:
        rc = remove_below(table, &node.child[bit_at(bits, node.cidr)], bits, cidr, peer)
        if rc != WH_OK:
            return rc
    collapse(table, slot)
    return WH_OK


cdef int allowedips_remove(allowedips_table* table, const uint8_t* address, int family_bits, int cidr,
                           uint32_t peer) noexcept nogil:
    """Remove one prefix if it belongs to peer: WH_OK or WH_E_STATE."""
    cdef allowedips_node** root = root_of(table, family_bits)
    cdef prefix_bits bits
    if root == NULL or not 0 <= cidr <= family_bits or peer == ALLOWEDIPS_NONE:
        return WH_E_STATE
    load_address(&bits, address, family_bits)
    return remove_below(table, root, &bits, cidr, peer)


cdef void remove_peer_below(allowedips_table* table, allowedips_node** slot, uint32_t peer) noexcept nogil:
    cdef allowedips_node* node = slot[0]
    if node == NULL:
        return
    remove_peer_below(table, &node.child[0], peer)
    remove_peer_below(table, &node.child[1], peer)
    if node.peer == peer:
        forget_peer(table, node)
    collapse(table, slot)


cdef void allowedips_remove_peer(allowedips_table* table, uint32_t peer) noexcept nogil:
    """Remove every prefix of peer, in both families."""
    if peer != ALLOWEDIPS_NONE:
        remove_peer_below(table, &table.root4, peer)
        remove_peer_below(table, &table.root6, peer)


cdef uint32_t allowedips_lookup(const allowedips_table* table, const uint8_t* address,
                                int family_bits) noexcept nogil:
    """Longest match or ALLOWEDIPS_NONE. Lock-free."""
    cdef allowedips_node** root = root_of(<allowedips_table*>table, family_bits)
    cdef allowedips_node* node
    cdef prefix_bits bits
    cdef uint32_t best = ALLOWEDIPS_NONE, peer
    if root == NULL:
        return ALLOWEDIPS_NONE
    load_address(&bits, address, family_bits)
    node = load_node(root, __ATOMIC_ACQUIRE)
    while node != NULL and covers(node, &bits):
        peer = load_peer(&node.peer, __ATOMIC_RELAXED)
        if peer != ALLOWEDIPS_NONE:
            best = peer
        if node.cidr == family_bits:
            break
        node = load_node(&node.child[bit_at(&bits, node.cidr)], __ATOMIC_ACQUIRE)
    return best


cdef void walk_below(const allowedips_node* node, int family_bits, allowedips_visitor visit,
                     void* context) noexcept nogil:
    cdef uint8_t address[16]
    if node == NULL:
        return
    if node.peer != ALLOWEDIPS_NONE:
        store_address(address, &node.prefix)
        visit(address, family_bits, node.cidr, node.peer, context)
    walk_below(node.child[0], family_bits, visit, context)
    walk_below(node.child[1], family_bits, visit, context)


cdef void allowedips_walk(const allowedips_table* table, allowedips_visitor visit,
                          void* context) noexcept nogil:
    """visit() for each prefix, in order of address; for the writer's thread."""
    walk_below(table.root4, IPV4_BITS, visit, context)
    walk_below(table.root6, IPV6_BITS, visit, context)


cdef allowedips_node* allowedips_take_retired(allowedips_table* table) noexcept nogil:
    """Detach what was unlinked so far: a chain for allowedips_free_list, once no reader can stand on it."""
    cdef allowedips_node* chain = table.retired
    table.retired = NULL
    return chain


cdef void allowedips_free_list(allowedips_node* chain) noexcept nogil:
    """Free what allowedips_take_retired gave."""
    cdef allowedips_node* node
    while chain != NULL:
        node = chain
        chain = node.retired_next
        free(node)


cdef void free_below(allowedips_node* node) noexcept nogil:
    if node != NULL:
        free_below(node.child[0])
        free_below(node.child[1])
        free(node)


cdef void allowedips_clear(allowedips_table* table) noexcept nogil:
    """Free everything at once: no reader may run."""
    allowedips_free_list(allowedips_take_retired(table))
    free_below(table.root4)
    free_below(table.root6)
    allowedips_init(table)


# --- for Python -------------------------------------------------------------------------------------------

cdef void append_item(const uint8_t* address, int family_bits, int cidr, uint32_t peer,
                      void* context) noexcept with gil:
    (<list>context).append(((<const char*>address)[:family_bits // 8], cidr, peer))


@cython.final
cdef class AllowedIPs:
    """One table, for tests and small uses. Addresses are 4 or 16 bytes; one thread at a time."""

    cdef allowedips_table table

    def __cinit__(self):
        allowedips_init(&self.table)

    def __dealloc__(self):
        allowedips_clear(&self.table)

    def __len__(self):
        return self.table.count

    def insert(self, bytes address not None, int prefix_len, uint32_t peer):
        """Give a prefix to peer, taking it from another. Raises ValueError for a bad length."""
        check_prefix(address, prefix_len)
        rc = allowedips_insert(&self.table, address, 8 * <int>len(address), prefix_len, peer)
        if rc != WH_OK:
            raise_rc(rc, "insert")

    def remove(self, bytes address not None, int prefix_len, uint32_t peer):
        """Remove a prefix. Raises ValueError, and SystemFailure where peer does not hold it."""
        check_prefix(address, prefix_len)
        rc = allowedips_remove(&self.table, address, 8 * <int>len(address), prefix_len, peer)
        allowedips_free_list(allowedips_take_retired(&self.table))
        if rc != WH_OK:
            raise_rc(rc, "remove")

    def remove_peer(self, uint32_t peer):
        """Remove every prefix of peer."""
        allowedips_remove_peer(&self.table, peer)
        allowedips_free_list(allowedips_take_retired(&self.table))

    def lookup(self, bytes address not None):
        """The peer with the longest prefix of address, or None. Raises ValueError for a wrong length."""
        check_prefix(address, 0)
        peer = allowedips_lookup(&self.table, address, 8 * <int>len(address))
        return None if peer == ALLOWEDIPS_NONE else peer

    def items(self):
        """A list of (address, prefix_len, peer), IPv4 first, in order of address."""
        found = []
        allowedips_walk(&self.table, append_item, <void*>found)
        return found


cdef int check_prefix(bytes address, int prefix_len) except -1:
    if len(address) != IPV4_BITS // 8 and len(address) != IPV6_BITS // 8:
        raise ValueError("an address is 4 or 16 bytes")
    if not 0 <= prefix_len <= 8 * len(address):
        raise ValueError("prefix_len is 0 to the address's bits")
    return 0
