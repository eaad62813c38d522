"""Packets in fragments: see fragments.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from whcore.ip_packet cimport (
    DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, IPV4_FRAGMENT, IPV4_HEADER_LEN, IPV4_MORE_FRAGMENTS, IPV4_OFFSET,
    IPV6_FRAGMENT_LEN, IPV6_HEADER_LEN, IPV6_NEXT_HEADER, ROUTING, load_be16, load_be32, store_be16, store_be32,
    store_ip_len,
)

cdef enum:
    OPTION_END = 0                  # RFC 791, 3.1
    OPTION_NOTHING = 1
    OPTION_COPIED = 0x80
    # The Fragment header (RFC 8200, 4.5): next header 1, reserved 1, offset and flags 2, identification 4
    OFFSET_AND_FLAGS = 2
    IDENTIFICATION = 4


cdef int fragment_begin(fragment_plan* plan, const uint8_t* packet, size_t limit, uint32_t id) noexcept nogil:
    plan.packet = packet
    plan.id = id
    if packet[0] >> 4 == 4:
        begin4(plan, limit)
    elif not begin6(plan, limit):
        return 0
    return <int>((plan.total - plan.payload_at + plan.each - 1) // plan.each)


cdef void begin4(fragment_plan* plan, size_t limit) noexcept nogil:
    cdef uint32_t word = load_be16(plan.packet + IPV4_FRAGMENT)
    plan.total = load_be16(plan.packet + 2)
    plan.payload_at = (plan.packet[0] & 15) * 4
    plan.each = <uint32_t>(limit - plan.payload_at) & ~<uint32_t>7
    plan.offset = word & IPV4_OFFSET
    plan.more = word & IPV4_MORE_FRAGMENTS != 0


cdef bint begin6(fragment_plan* plan, size_t limit) noexcept nogil:
    cdef const uint8_t* header
    plan.total = IPV6_HEADER_LEN + load_be16(plan.packet + 4)
    plan.offset = 0
    plan.more = False
    if not headers6(plan) or plan.header_len + IPV6_FRAGMENT_LEN + 8 > limit:
        return False
    plan.each = <uint32_t>(limit - plan.header_len - IPV6_FRAGMENT_LEN) & ~<uint32_t>7
    if plan.next_header == FRAGMENT:
        header = plan.packet + plan.header_len
        plan.next_header = header[0]
        plan.payload_at += IPV6_FRAGMENT_LEN
        plan.offset = load_be16(header + OFFSET_AND_FLAGS) >> 3
        plan.more = header[OFFSET_AND_FLAGS + 1] & 1
        plan.id = load_be32(header + IDENTIFICATION)
    return plan.payload_at < plan.total


cdef bint headers6(fragment_plan* plan) noexcept nogil:
    """What nodes on the way look at is in each fragment: all up to the last Hop-by-Hop Options or Routing header. What
    follows is the payload, Destination Options too, but not behind which there is a Fragment header already."""
    cdef const uint8_t* packet = plan.packet
    cdef uint32_t at = IPV6_HEADER_LEN
    cdef uint8_t kind = packet[IPV6_NEXT_HEADER]
    plan.named_at = IPV6_NEXT_HEADER
    plan.header_len = IPV6_HEADER_LEN
    while kind == HOP_BY_HOP or kind == ROUTING or kind == DESTINATION_OPTIONS:
        if plan.total < at + 8 or plan.total < at + 8 + packet[at + 1] * 8:
            return False
        if kind != DESTINATION_OPTIONS:
            plan.named_at = at
            plan.header_len = at + 8 + packet[at + 1] * 8
        kind = packet[at]
        at += 8 + packet[at + 1] * 8
    plan.payload_at = plan.header_len
    plan.next_header = packet[plan.named_at]
    return kind != FRAGMENT or (at == plan.header_len and plan.total >= at + IPV6_FRAGMENT_LEN)


cdef size_t fragment_write(const fragment_plan* plan, int i, uint8_t* out) noexcept nogil:
    cdef uint32_t skipped = <uint32_t>i * plan.each, at = plan.payload_at + skipped
    cdef uint32_t length = min(plan.each, plan.total - at), offset = (plan.offset + skipped // 8) & IPV4_OFFSET
    cdef bint more = plan.more or at + length < plan.total
    cdef size_t header_len
    if plan.packet[0] >> 4 == 4:
        header_len = header4(plan.packet, i, out)
        store_be16(out + IPV4_FRAGMENT, (load_be16(out + IPV4_FRAGMENT) & ~<uint32_t>(IPV4_MORE_FRAGMENTS | IPV4_OFFSET))
                   | (IPV4_MORE_FRAGMENTS if more else 0) | offset)
    else:
        header_len = header6(plan, out)
        store_be16(out + plan.header_len + OFFSET_AND_FLAGS, offset << 3 | more)
    memcpy(out + header_len, plan.packet + at, length)
    store_ip_len(out, header_len + length)
    return header_len + length


cdef size_t header4(const uint8_t* packet, int i, uint8_t* out) noexcept nogil:
    """The header of fragment i; all but the first have only those options that say so (RFC 791, 3.1)."""
    cdef size_t header_len = <size_t>(packet[0] & 15) * 4, at = IPV4_HEADER_LEN, kept = IPV4_HEADER_LEN, length
    if i == 0:
        memcpy(out, packet, header_len)
        return header_len
    memcpy(out, packet, IPV4_HEADER_LEN)
    while at < header_len and packet[at] != OPTION_END:
        length = 1 if packet[at] == OPTION_NOTHING or at + 1 == header_len else packet[at + 1]
        if length == 0 or at + length > header_len:
            break           # no such option: what follows cannot be told apart
        if packet[at] & OPTION_COPIED:
            memcpy(out + kept, packet + at, length)
            kept += length
        at += length
    while kept & 3:
        out[kept] = OPTION_END
        kept += 1
    out[0] = <uint8_t>(0x40 | kept // 4)
    return kept


cdef size_t header6(const fragment_plan* plan, uint8_t* out) noexcept nogil:
    cdef uint8_t* header = out + plan.header_len
    memcpy(out, plan.packet, plan.header_len)
    out[plan.named_at] = FRAGMENT
    header[0] = plan.next_header
    header[1] = 0
    store_be32(header + IDENTIFICATION, plan.id)
    return plan.header_len + IPV6_FRAGMENT_LEN
