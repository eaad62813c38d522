"""Slabs of equal items for peers and session keys: one guarded, locked region that is left out of core dumps.

A page for each secret would break RLIMIT_MEMLOCK (8 MiB) and vm.max_map_count, so items share pages; the region has
an inaccessible page at each end and grows in place, so addresses never move. Callers lock.
"""

from libc.stdint cimport uint8_t, uint32_t

cdef struct arena:
    uint8_t* base               # first usable byte
    size_t item_size            # rounded up to a cache line
    uint32_t capacity           # items that fit the reserved region
    uint32_t committed          # items whose memory is readable and writable
    uint32_t used_high          # items ever handed out
    uint32_t free_head          # index + 1 of the first freed item; 0: none
    uint32_t in_use
    bint locked                 # every mlock so far succeeded

# WH_OK or WH_E_MEMORY. Reserves address space only.
cdef int arena_init(arena* slab, size_t item_size, uint32_t capacity) noexcept nogil
# A zeroed item, or NULL where the arena is full.
cdef void* arena_alloc(arena* slab) noexcept nogil
# Zeroes the item.
cdef void arena_free(arena* slab, void* item) noexcept nogil
cdef uint32_t arena_index(const arena* slab, const void* item) noexcept nogil
cdef void* arena_at(const arena* slab, uint32_t index) noexcept nogil
# Zeroes and unmaps everything.
cdef void arena_destroy(arena* slab) noexcept nogil
