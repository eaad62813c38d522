"""What the data plane must know of the IP packets inside the tunnel: see inner.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from whcore.allowedips cimport allowedips_lookup
from whcore.device cimport DROP_TOO_BIG, DROP_TUN_WRITE, MAX_PACKET, VNET_HEADER_LEN, wh_device, wh_path, wh_worker
from whcore.forwarder cimport CHANNEL_HEADER_LEN
from whcore.kernel cimport AF_INET, wh_le32, write
from whcore.offload cimport LINK_HEADER_LEN, virtio_net_hdr, write_link_header
from whcore.tunnel cimport DATA_OVERHEAD

cdef enum:
    IP4_HEADER_LEN = 20
    IP6_HEADER_LEN = 40
    UDP_HEADER_LEN = 8
    ICMP_HEADER_LEN = 8
    ICMP4_QUOTE = 548               # RFC 1812, 4.3.2.3: an error of at most 576 bytes
    ICMP6_QUOTE = 1232              # RFC 4443, 2.4: an error of at most 1,280 bytes
    PROTOCOL_ICMP = 1
    PROTOCOL_TCP = 6
    PROTOCOL_UDP = 17
    PROTOCOL_ICMP6 = 58
    ECN_NOT_ECT = 0                 # RFC 3168 codepoints
    ECN_ECT1 = 1
    ECN_CE = 3


cdef size_t inner_length(const uint8_t* packet, size_t n) noexcept nogil:
    cdef size_t total = 0
    if n >= IP4_HEADER_LEN and packet[0] >> 4 == 4:
        total = <size_t>packet[2] << 8 | packet[3]
        if total < IP4_HEADER_LEN:
            return 0
    elif n >= IP6_HEADER_LEN and packet[0] >> 4 == 6:
        total = IP6_HEADER_LEN + (<size_t>packet[4] << 8 | packet[5])
    return total if total <= n else 0


cdef uint32_t inner_peer(const wh_device* dev, const uint8_t* packet, bint source) noexcept nogil:
    if packet[0] >> 4 == 4:
        return allowedips_lookup(&dev.allowed, packet + (12 if source else 16), 32)
    return allowedips_lookup(&dev.allowed, packet + (8 if source else 24), 128)


cdef uint32_t flow_hash(const uint8_t* packet) noexcept nogil:
    cdef uint32_t mixed = 0
    cdef bint v4 = packet[0] >> 4 == 4
    cdef int i, first = 12 if v4 else 8, last = 20 if v4 else 40
    cdef uint8_t protocol = packet[9] if v4 else packet[6]
    cdef size_t ports = <size_t>(packet[0] & 15) * 4 if v4 else IP6_HEADER_LEN
    for i in range(first, last, 4):
        mixed ^= wh_le32(packet + i)
    # A fragment has its ports only in the first; all of it must hash alike.
    if (protocol == PROTOCOL_TCP or protocol == PROTOCOL_UDP) and not (v4 and (packet[6] & 0x3F or packet[7])):
        if ports + 4 <= inner_length(packet, MAX_PACKET):
            mixed ^= (<uint32_t>packet[ports] << 8 | packet[ports + 1]) ^ (<uint32_t>packet[ports + 2] << 8 | packet[ports + 3])
    mixed *= <uint32_t>0x9E3779B1
    return mixed >> 16


# --- ECN ------------------------------------------------------------------------------------------------------------

cdef bint carry_ecn(uint8_t* packet, uint8_t outer_ecn) noexcept nogil:
    cdef bint v4 = packet[0] >> 4 == 4
    cdef uint8_t inner = packet[1] & 3 if v4 else (packet[1] >> 4) & 3
    if outer_ecn == ECN_CE and inner == ECN_NOT_ECT:
        return False
    if inner == ECN_NOT_ECT or inner == ECN_CE or not (outer_ecn == ECN_CE or outer_ecn == ECN_ECT1):
        return True
    if v4:
        set_ecn4(packet, outer_ecn)
    else:
        packet[1] = (packet[1] & 0xCF) | <uint8_t>(outer_ecn << 4)
    return True


cdef void set_ecn4(uint8_t* packet, uint8_t ecn) noexcept nogil:
    """RFC 1624: HC' = ~(~HC + ~m + m') over the word that holds the TOS byte."""
    cdef uint32_t old = <uint32_t>packet[0] << 8 | packet[1], checksum
    packet[1] = (packet[1] & 0xFC) | ecn
    checksum = <uint32_t>(~(<uint32_t>packet[10] << 8 | packet[11]) & 0xFFFF) + (~old & 0xFFFF)
    checksum += <uint32_t>packet[0] << 8 | packet[1]
    checksum = ~fold(checksum) & 0xFFFF
    packet[10] = checksum >> 8
    packet[11] = checksum & 0xFF


# --- path MTU -------------------------------------------------------------------------------------------------------

cdef inline size_t outer_overhead(const wh_path* path) noexcept nogil:
    return (
        (IP4_HEADER_LEN if path.address.ss_family == AF_INET else IP6_HEADER_LEN) + UDP_HEADER_LEN
        + (CHANNEL_HEADER_LEN if path.channel else 0) + DATA_OVERHEAD
    )


cdef size_t inner_limit(const wh_path* path) noexcept nogil:
    if path.mtu == 0:
        return MAX_PACKET
    # Padding to 16 must fit as well.
    return (path.mtu - outer_overhead(path)) & ~<size_t>15


cdef inline uint32_t fold(uint32_t total) noexcept nogil:
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


cdef uint32_t sum_words(const uint8_t* data, size_t n) noexcept nogil:
    cdef uint32_t total = 0
    cdef size_t i
    for i in range(0, n - 1 if n else 0, 2):
        total += <uint32_t>data[i] << 8 | data[i + 1]
    if n & 1:
        total += <uint32_t>data[n - 1] << 8
    return fold(total)


cdef inline void put_word(uint8_t* out, uint32_t word) noexcept nogil:
    out[0] = <uint8_t>(word >> 8)
    out[1] = <uint8_t>word


cdef bint answer_too_big(wh_worker* w, const wh_path* path, const uint8_t* packet, size_t n) noexcept nogil:
    cdef uint8_t room[16 + LINK_HEADER_LEN + IP6_HEADER_LEN + ICMP_HEADER_LEN + ICMP6_QUOTE]
    cdef uint8_t* reply = room + VNET_HEADER_LEN + w.link_len
    cdef size_t length
    if packet[0] >> 4 == 4 and not packet[6] & 0x40:
        return False
    memset(room, 0, VNET_HEADER_LEN)
    if packet[0] >> 4 == 4:
        length = too_big4(reply, inner_limit(path), packet, n)
    else:
        length = too_big6(reply, inner_limit(path), packet, n)
    w.counters[DROP_TOO_BIG] += 1
    if w.link_len:
        write_link_header(<virtio_net_hdr*>room, reply)
    if not w.vnet:
        if write(w.tun_fd, reply, length) < 0:
            w.counters[DROP_TUN_WRITE] += 1
    elif write(w.tun_fd, room, VNET_HEADER_LEN + w.link_len + length) < 0:
        w.counters[DROP_TUN_WRITE] += 1
    return True


cdef size_t too_big4(uint8_t* reply, size_t mtu, const uint8_t* packet, size_t n) noexcept nogil:
    """ICMP destination unreachable, fragmentation needed (RFC 792, RFC 1191), as if from the packet's destination."""
    cdef size_t quoted = min(n, <size_t>ICMP4_QUOTE)
    cdef uint8_t* icmp = reply + IP4_HEADER_LEN
    memset(reply, 0, IP4_HEADER_LEN + ICMP_HEADER_LEN)
    reply[0] = 0x45
    put_word(reply + 2, <uint32_t>(IP4_HEADER_LEN + ICMP_HEADER_LEN + quoted))
    reply[8] = 64
    reply[9] = PROTOCOL_ICMP
    memcpy(reply + 12, packet + 16, 4)
    memcpy(reply + 16, packet + 12, 4)
    put_word(reply + 10, ~sum_words(reply, IP4_HEADER_LEN) & 0xFFFF)
    icmp[0] = 3
    icmp[1] = 4
    put_word(icmp + 6, <uint32_t>mtu)
    memcpy(icmp + ICMP_HEADER_LEN, packet, quoted)
    put_word(icmp + 2, ~sum_words(icmp, ICMP_HEADER_LEN + quoted) & 0xFFFF)
    return IP4_HEADER_LEN + ICMP_HEADER_LEN + quoted


cdef size_t too_big6(uint8_t* reply, size_t mtu, const uint8_t* packet, size_t n) noexcept nogil:
    """ICMPv6 packet too big (RFC 4443, 3.2), as if from the packet's destination."""
    cdef size_t quoted = min(n, <size_t>ICMP6_QUOTE), length = ICMP_HEADER_LEN + quoted
    cdef uint8_t* icmp = reply + IP6_HEADER_LEN
    memset(reply, 0, IP6_HEADER_LEN + ICMP_HEADER_LEN)
    reply[0] = 0x60
    put_word(reply + 4, <uint32_t>length)
    reply[6] = PROTOCOL_ICMP6
    reply[7] = 64
    memcpy(reply + 8, packet + 24, 16)
    memcpy(reply + 24, packet + 8, 16)
    icmp[0] = 2
    put_word(icmp + 6, <uint32_t>mtu)
    memcpy(icmp + ICMP_HEADER_LEN, packet, quoted)
    put_word(icmp + 2, ~fold(sum_words(reply + 8, 32) + <uint32_t>length + PROTOCOL_ICMP6 + sum_words(icmp, length)) & 0xFFFF)
    return IP6_HEADER_LEN + length
