"""Longest-prefix-match tries, one an address family: inner address -> peer index.

Readers run without a lock beside one writer: nodes are written before they are linked, and removed ones are
handed to `retired` for the owner to free once every reader passed a quiescent point.
"""

from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    ALLOWEDIPS_NONE = 0xFFFFFFFF            # no peer

cdef struct allowedips_node

cdef struct allowedips_table:
    allowedips_node* root4
    allowedips_node* root6
    allowedips_node* retired                # unlinked, not yet freed
    size_t count                            # prefixes held

cdef void allowedips_init(allowedips_table* table) noexcept nogil
# address: 4 or 16 bytes (bits beyond cidr ignored); family_bits: 32 or 128; cidr: 0..family_bits. An existing
# prefix moves to the new peer. WH_OK, WH_E_LENGTH, WH_E_STATE (no such peer number), WH_E_MEMORY.
cdef int allowedips_insert(allowedips_table* table, const uint8_t* address, int family_bits, int cidr,
                           uint32_t peer) noexcept nogil
# Remove one prefix if it belongs to peer: WH_OK or WH_E_STATE.
cdef int allowedips_remove(allowedips_table* table, const uint8_t* address, int family_bits, int cidr,
                           uint32_t peer) noexcept nogil
cdef void allowedips_remove_peer(allowedips_table* table, uint32_t peer) noexcept nogil
# Longest match or ALLOWEDIPS_NONE. Lock-free.
cdef uint32_t allowedips_lookup(const allowedips_table* table, const uint8_t* address,
                                int family_bits) noexcept nogil
# Each prefix: visit(address, family_bits, cidr, peer, context).
ctypedef void (*allowedips_visitor)(const uint8_t* address, int family_bits, int cidr, uint32_t peer,
                                    void* context) noexcept nogil
cdef void allowedips_walk(const allowedips_table* table, allowedips_visitor visit,
                          void* context) noexcept nogil
# Detach what was unlinked so far; free_list frees such a chain.
cdef allowedips_node* allowedips_take_retired(allowedips_table* table) noexcept nogil
cdef void allowedips_free_list(allowedips_node* chain) noexcept nogil
# Frees everything at once: no reader may run.
cdef void allowedips_clear(allowedips_table* table) noexcept nogil
