"""Packets in fragments, as small as a path asks (RFC 791, 3.2; RFC 8200, 4.5).

An IPv6 packet is its source's to fragment; but a link that cannot carry 1,280 bytes whole has to do it below IPv6 (RFC
8200, 5), and what any destination can put together are fragments such as the source would have made.
"""

from libc.stdint cimport uint8_t, uint32_t

cdef struct fragment_plan:
    const uint8_t* packet           # not owned; as long as its header says
    uint32_t total
    uint32_t header_len             # IPv6: of what each fragment begins with (RFC 8200, 4.5, Per-Fragment headers)
    uint32_t named_at               # IPv6: the Next Header field that names the Fragment header
    uint32_t payload_at
    uint32_t each                   # payload bytes of each fragment but the last, a multiple of 8
    uint32_t offset                 # of the payload in the packet that this is a fragment of, in units of 8 bytes
    bint more                       # of its fragments follow
    uint8_t next_header             # IPv6: of the payload
    uint32_t id                     # IPv6

# Plan fragments of at most limit (at least 128) bytes. packet: with a header that parse_ip accepts. id: for an IPv6
# packet that is no fragment yet. Returns how many, 0 where there can be none (IPv6 whose extension headers make no sense).
cdef int fragment_begin(fragment_plan* plan, const uint8_t* packet, size_t limit, uint32_t id) noexcept nogil
# Write fragment i, limit bytes at most. Returns its length.
cdef size_t fragment_write(const fragment_plan* plan, int i, uint8_t* out) noexcept nogil
