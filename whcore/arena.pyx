"""Guarded slabs for secrets: see arena.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from whcore.errors cimport WH_E_MEMORY, WH_OK
from whcore.kernel cimport (
    MADV_DONTDUMP, MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE,
    madvise, mlock, mmap, mprotect, munmap,
)
from whcore.sodium cimport sodium_memzero

cdef enum:
    PAGE = 4096
    CACHE_LINE = 64
    COMMIT_BYTES = 16 * 4096        # grown by this much at a time


cdef inline size_t round_up(size_t n, size_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef inline size_t region_bytes(const arena* slab) noexcept nogil:
    return round_up(slab.item_size * slab.capacity, COMMIT_BYTES) + 2 * PAGE


cdef int arena_init(arena* slab, size_t item_size, uint32_t capacity) noexcept nogil:
    cdef void* region
    memset(slab, 0, sizeof(arena))
    slab.item_size = round_up(item_size, CACHE_LINE)
    slab.capacity = capacity
    slab.locked = True
    region = mmap(NULL, region_bytes(slab), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if region == MAP_FAILED:
        return WH_E_MEMORY
    madvise(region, region_bytes(slab), MADV_DONTDUMP)
    slab.base = <uint8_t*>region + PAGE
    return WH_OK


cdef int grow(arena* slab) noexcept nogil:
    """Make the next COMMIT_BYTES usable. WH_OK or WH_E_MEMORY."""
    cdef size_t begin = round_up(slab.item_size * slab.committed, COMMIT_BYTES)
    cdef size_t end = round_up(slab.item_size * (slab.committed + 1), COMMIT_BYTES)
    cdef uint32_t fitting
    if slab.committed >= slab.capacity:
        return WH_E_MEMORY
    if end > begin:
        if mprotect(slab.base + begin, end - begin, PROT_READ | PROT_WRITE) != 0:
            return WH_E_MEMORY
        if mlock(slab.base + begin, end - begin) != 0:
            slab.locked = False
    fitting = <uint32_t>(end // slab.item_size)
    slab.committed = fitting if fitting < slab.capacity else slab.capacity
    return WH_OK


cdef void* arena_alloc(arena* slab) noexcept nogil:
    cdef uint8_t* item
    if slab.free_head:
        item = slab.base + slab.item_size * (slab.free_head - 1)
        slab.free_head = (<uint32_t*>item)[0]
        (<uint32_t*>item)[0] = 0
    else:
        if slab.used_high == slab.committed and grow(slab) != WH_OK:
            return NULL
        item = slab.base + slab.item_size * slab.used_high
        slab.used_high += 1
    slab.in_use += 1
    return item


cdef void arena_free(arena* slab, void* item) noexcept nogil:
    if item == NULL:
        return
    sodium_memzero(item, slab.item_size)
    (<uint32_t*>item)[0] = slab.free_head
    slab.free_head = arena_index(slab, item) + 1
    slab.in_use -= 1


cdef uint32_t arena_index(const arena* slab, const void* item) noexcept nogil:
    return <uint32_t>((<const uint8_t*>item - slab.base) // slab.item_size)


cdef void* arena_at(const arena* slab, uint32_t index) noexcept nogil:
    return slab.base + slab.item_size * index


cdef void arena_destroy(arena* slab) noexcept nogil:
    if slab.base == NULL:
        return
    if slab.used_high:
        sodium_memzero(slab.base, slab.item_size * slab.used_high)
    munmap(slab.base - PAGE, region_bytes(slab))
    memset(slab, 0, sizeof(arena))
