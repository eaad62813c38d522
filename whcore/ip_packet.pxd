"""Layouts of IP, TCP and UDP headers as offsets from their first byte, and operations on them, inlined.

RFC 791, RFC 8200, RFC 9293, RFC 768.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from whcore.checksum cimport wh_store_word, wh_sum, wh_sum_fold
from whcore.errors cimport WH_E_LENGTH, WH_E_TYPE, WH_OK

cdef enum:
    IPV4_HEADER_LEN = 20            # without options
    IPV4_ID = 4
    IPV4_FRAGMENT = 6
    IPV4_TTL = 8
    IPV4_PROTOCOL = 9
    IPV4_CHECKSUM = 10
    IPV4_SOURCE = 12
    IPV4_DESTINATION = 16
    IPV4_DONT_FRAGMENT = 0x4000
    IPV4_MORE_FRAGMENTS = 0x2000
    IPV4_OFFSET = 0x1FFF            # of a fragment, in units of 8 bytes
    IPV4_IS_FRAGMENT = 0x3FFF       # more fragments, or an offset
    IPV6_HEADER_LEN = 40
    IPV6_MIN_MTU = 1280             # every link's (RFC 8200, 5)
    IPV6_NEXT_HEADER = 6
    IPV6_HOP_LIMIT = 7
    IPV6_SOURCE = 8
    IPV6_DESTINATION = 24
    IPV6_FRAGMENT_LEN = 8           # the Fragment header (RFC 8200, 4.5)
    ICMP6_ERROR_MAX = 1280          # a whole packet of it (RFC 4443, 2.4 (c))

    # Protocol numbers, IPv6 extension headers (RFC 8200) among them
    HOP_BY_HOP = 0
    ICMP = 1
    TCP = 6
    UDP = 17
    ROUTING = 43
    FRAGMENT = 44
    ICMPV6 = 58
    DESTINATION_OPTIONS = 60

    TCP_HEADER_LEN = 20             # without options
    TCP_SEQUENCE = 4
    TCP_ACK_NUMBER = 8
    TCP_DATA_OFFSET = 12
    TCP_FLAGS = 13
    TCP_WINDOW = 14
    TCP_CHECKSUM = 16
    TCP_URGENT = 18
    FIN = 0x01
    PSH = 0x08
    ACK = 0x10
    CWR = 0x80

    UDP_HEADER_LEN = 8
    UDP_LENGTH = 4
    UDP_CHECKSUM = 6


cdef inline uint16_t load_be16(const uint8_t* p) noexcept nogil:
    return <uint16_t>(p[0] << 8 | p[1])


cdef inline void store_be16(uint8_t* p, uint32_t value) noexcept nogil:
    p[0] = <uint8_t>(value >> 8)
    p[1] = <uint8_t>value


cdef inline uint32_t load_be32(const uint8_t* p) noexcept nogil:
    return <uint32_t>load_be16(p) << 16 | load_be16(p + 2)


cdef inline void store_be32(uint8_t* p, uint32_t value) noexcept nogil:
    store_be16(p, value >> 16)
    store_be16(p + 2, value)


cdef inline void store_checksum(uint8_t* p, uint64_t sum, bint udp) noexcept nogil:
    """Store the complement of a sum. For UDP 0 means that there is none, so it becomes ffff (RFC 768)."""
    cdef uint16_t word = <uint16_t>~wh_sum_fold(sum)
    wh_store_word(p, <uint16_t>0xFFFF if udp and word == 0 else word)


cdef inline void store_ip_len(uint8_t* packet, size_t n) noexcept nogil:
    """Make n the length of an IP packet; an IPv4 header's checksum follows from its other fields."""
    if packet[0] >> 4 == 6:
        store_be16(packet + 4, <uint32_t>(n - IPV6_HEADER_LEN))
        return
    store_be16(packet + 2, <uint32_t>n)
    wh_store_word(packet + IPV4_CHECKSUM, 0)
    store_checksum(packet + IPV4_CHECKSUM, wh_sum(packet, (packet[0] & 15) * 4, 0), False)


cdef struct ip_layout:
    uint32_t total                  # as the header states
    uint32_t transport_at
    uint8_t version
    uint8_t protocol                # of what is at transport_at
    bint fragment


cdef inline int parse_ip(ip_layout* ip, const uint8_t* packet, size_t n) noexcept nogil:
    """Read the header of a packet in n bytes, which may be more than its length. WH_OK, WH_E_LENGTH or
    WH_E_TYPE."""
    if n < IPV4_HEADER_LEN:
        return WH_E_LENGTH
    ip.version = packet[0] >> 4
    if ip.version == 4:
        ip.total = load_be16(packet + 2)
        ip.transport_at = (packet[0] & 15) * 4
        ip.protocol = packet[9]
        ip.fragment = load_be16(packet + IPV4_FRAGMENT) & IPV4_IS_FRAGMENT != 0
        if ip.transport_at < IPV4_HEADER_LEN:
            return WH_E_LENGTH
    elif ip.version == 6:
        if n < IPV6_HEADER_LEN:
            return WH_E_LENGTH
        ip.total = IPV6_HEADER_LEN + load_be16(packet + 4)
        ip.transport_at = IPV6_HEADER_LEN
        ip.protocol = packet[IPV6_NEXT_HEADER]
        ip.fragment = False
    else:
        return WH_E_TYPE
    return WH_OK if ip.transport_at <= ip.total <= n else WH_E_LENGTH


cdef inline int skip_extensions(ip_layout* ip, const uint8_t* packet) noexcept nogil:
    """Move an IPv6 layout behind extension headers that each segment may repeat (RFC 8200, 4.3, 4.4, 4.6)."""
    cdef uint32_t at
    if ip.version != 6:
        return WH_OK
    while ip.protocol == HOP_BY_HOP or ip.protocol == ROUTING or ip.protocol == DESTINATION_OPTIONS:
        at = ip.transport_at
        if ip.total - at < 8:
            return WH_E_LENGTH
        ip.protocol = packet[at]
        ip.transport_at = at + 8 + packet[at + 1] * 8
        if ip.transport_at > ip.total:
            return WH_E_LENGTH
    return WH_OK
