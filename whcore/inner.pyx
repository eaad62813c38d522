"""What the data plane must know of the IP packets inside the tunnel: see inner.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from whcore.allowedips cimport allowedips_lookup
from whcore.checksum cimport wh_load_word, wh_sum, wh_sum_word
from whcore.device cimport (
    DROP_TOO_BIG, DROP_TUN_WRITE, MAX_PACKET, VNET_HEADER_LEN, wh_device, wh_path, wh_peer, wh_worker,
)
from whcore.errors cimport WH_OK
from whcore.forwarder cimport CHANNEL_HEADER_LEN
from whcore.ip_packet cimport (
    FRAGMENT, ICMP, ICMP6_ERROR_MAX, ICMPV6, IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_DONT_FRAGMENT, IPV4_FRAGMENT, IPV4_HEADER_LEN,
    IPV4_IS_FRAGMENT, IPV4_OFFSET, IPV4_PROTOCOL, IPV4_SOURCE, IPV4_TTL, IPV6_DESTINATION,
    IPV6_FRAGMENT_LEN, IPV6_HEADER_LEN, IPV6_HOP_LIMIT, IPV6_MIN_MTU, IPV6_NEXT_HEADER, IPV6_SOURCE, TCP, UDP, UDP_HEADER_LEN,
    ip_layout, load_be16, parse_ip, skip_extensions, store_be16, store_checksum, store_ip_len,
)
from whcore.kernel cimport AF_INET, wh_le32, wh_load_ptr, wh_load_u32, write
from whcore.offload cimport LINK_HEADER_LEN, virtio_net_hdr, write_link_header
from whcore.tunnel cimport MESSAGE_DATA, MESSAGE_INITIATION, keypair

cdef enum:
    ICMP_HEADER_LEN = 8
    ICMP4_QUOTE = 548               # RFC 1812, 4.3.2.3: an error of at most 576 bytes
    # RFC 4443: types, of which those from 128 on are no errors; codes
    ICMP6_UNREACHABLE = 1
    ICMP6_NO_ADDRESS = 3
    ICMP6_NO_PORT = 4
    ICMP6_TOO_BIG = 2
    ICMP6_INFORMATIONAL = 128
    HOPS = 64                       # of what we write ourselves
    ECN_NOT_ECT = 0                 # RFC 3168 codepoints
    ECN_ECT1 = 1
    ECN_CE = 3


cdef size_t inner_length(const uint8_t* packet, size_t n) noexcept nogil:
    cdef size_t total = 0
    if n >= IPV4_HEADER_LEN and packet[0] >> 4 == 4:
        total = load_be16(packet + 2)
        if total < IPV4_HEADER_LEN:
            return 0
    elif n >= IPV6_HEADER_LEN and packet[0] >> 4 == 6:
        total = IPV6_HEADER_LEN + load_be16(packet + 4)
    return total if total <= n else 0


cdef uint32_t inner_peer(const wh_device* dev, const uint8_t* packet, bint source) noexcept nogil:
    if packet[0] >> 4 == 4:
        return allowedips_lookup(&dev.allowed, packet + (IPV4_SOURCE if source else IPV4_DESTINATION), 32)
    return allowedips_lookup(&dev.allowed, packet + (IPV6_SOURCE if source else IPV6_DESTINATION), 128)


cdef uint32_t flow_hash(const uint8_t* packet) noexcept nogil:
    cdef uint32_t mixed = 0
    cdef bint v4 = packet[0] >> 4 == 4
    cdef int i, first = IPV4_SOURCE if v4 else IPV6_SOURCE, last = IPV4_HEADER_LEN if v4 else IPV6_HEADER_LEN
    cdef uint8_t protocol = packet[IPV4_PROTOCOL] if v4 else packet[IPV6_NEXT_HEADER]
    cdef size_t ports = <size_t>(packet[0] & 15) * 4 if v4 else IPV6_HEADER_LEN
    for i in range(first, last, 4):
        mixed ^= wh_le32(packet + i)
    # A fragment has its ports only in the first; all of it must hash alike.
    if (protocol == TCP or protocol == UDP) and not (v4 and load_be16(packet + IPV4_FRAGMENT) & IPV4_IS_FRAGMENT):
        if ports + 4 <= inner_length(packet, MAX_PACKET):
            mixed ^= load_be16(packet + ports) ^ load_be16(packet + ports + 2)
    mixed *= <uint32_t>0x9E3779B1
    return mixed >> 16


# --- routing loops --------------------------------------------------------------------------------------------------

cdef bint inner_is_own(wh_peer* peer, const wh_path* path, const uint8_t* packet, size_t n) noexcept nogil:
    cdef bint v4 = path.address.ss_family == AF_INET
    cdef size_t at = udp_at(packet)
    cdef const uint8_t* message
    cdef keypair* kp
    if at == 0 or (packet[0] >> 4 == 4) != v4:
        return False
    if n < at + UDP_HEADER_LEN + CHANNEL_HEADER_LEN + 8 or memcmp(packet + at + 2, path.remote + 16, 2) != 0:
        return False
    if memcmp(packet + (IPV4_DESTINATION if v4 else IPV6_DESTINATION), path.remote + (12 if v4 else 0), 4 if v4 else 16) != 0:
        return False
    message = packet + at + UDP_HEADER_LEN + (CHANNEL_HEADER_LEN if path.channel else 0)
    if wh_le32(message) == MESSAGE_DATA:
        kp = <keypair*>wh_load_ptr(&peer.tunnel.current)
        return kp != NULL and wh_le32(message + 4) == kp.remote_index
    return wh_le32(message) == MESSAGE_INITIATION and wh_le32(message + 4) == wh_load_u32(&peer.tunnel.handshake_index)


cdef inline size_t udp_at(const uint8_t* packet) noexcept nogil:
    """Where the UDP header is of a packet, or of its first fragment; 0: in no place where the host's own have it."""
    if packet[0] >> 4 == 4:
        if packet[IPV4_PROTOCOL] != UDP or load_be16(packet + IPV4_FRAGMENT) & IPV4_OFFSET:
            return 0
        return <size_t>(packet[0] & 15) * 4
    if packet[IPV6_NEXT_HEADER] == UDP:
        return IPV6_HEADER_LEN
    # The fields of a Fragment header: next header, reserved, offset and flags (RFC 8200, 4.5).
    if packet[IPV6_NEXT_HEADER] == FRAGMENT and inner_length(packet, MAX_PACKET) >= IPV6_HEADER_LEN + IPV6_FRAGMENT_LEN:
        if packet[IPV6_HEADER_LEN] == UDP and load_be16(packet + IPV6_HEADER_LEN + 2) & 0xFFF8 == 0:
            return IPV6_HEADER_LEN + IPV6_FRAGMENT_LEN
    return 0


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
    cdef uint64_t sum = <uint16_t>~wh_load_word(packet + IPV4_CHECKSUM)
    sum += <uint16_t>~wh_load_word(packet)
    packet[1] = (packet[1] & 0xFC) | ecn
    sum += wh_load_word(packet)
    store_checksum(packet + IPV4_CHECKSUM, sum, False)


# --- path MTU -------------------------------------------------------------------------------------------------------

cdef bint answer_too_big(wh_worker* w, size_t mtu, const uint8_t* packet, size_t n, size_t segment_len) noexcept nogil:
    cdef uint8_t room[16 + LINK_HEADER_LEN + ICMP6_ERROR_MAX]
    cdef uint8_t* reply = room + VNET_HEADER_LEN + w.link_len
    cdef size_t length
    cdef bint v4 = packet[0] >> 4 == 4
    if v4 and not load_be16(packet + IPV4_FRAGMENT) & IPV4_DONT_FRAGMENT:
        return False
    if not v4 and segment_len <= IPV6_MIN_MTU:
        return False
    memset(room, 0, VNET_HEADER_LEN)
    if v4:
        length = too_big4(reply, mtu, packet, n)
    else:
        length = error6(reply, ICMP6_ERROR_MAX, ICMP6_TOO_BIG, 0, <uint32_t>max(mtu, <size_t>IPV6_MIN_MTU), packet, n)
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
    cdef uint8_t* icmp = reply + IPV4_HEADER_LEN
    memset(reply, 0, IPV4_HEADER_LEN + ICMP_HEADER_LEN)
    reply[0] = 0x45
    reply[IPV4_TTL] = HOPS
    reply[IPV4_PROTOCOL] = ICMP
    memcpy(reply + IPV4_SOURCE, packet + IPV4_DESTINATION, 4)
    memcpy(reply + IPV4_DESTINATION, packet + IPV4_SOURCE, 4)
    store_ip_len(reply, IPV4_HEADER_LEN + ICMP_HEADER_LEN + quoted)
    icmp[0] = 3
    icmp[1] = 4
    store_be16(icmp + 6, <uint32_t>mtu)
    memcpy(icmp + ICMP_HEADER_LEN, packet, quoted)
    store_checksum(icmp + 2, wh_sum(icmp, ICMP_HEADER_LEN + quoted, 0), False)
    return IPV4_HEADER_LEN + ICMP_HEADER_LEN + quoted


cdef size_t error6(uint8_t* reply, size_t limit, uint8_t kind, uint8_t code, uint32_t field, const uint8_t* packet,
                   size_t n) noexcept nogil:
    """An ICMPv6 error of at most limit bytes (RFC 4443, 2.1, 3), as if from the packet's destination. field: the lower half
    of the word behind the checksum."""
    cdef size_t quoted = min(n, limit - IPV6_HEADER_LEN - ICMP_HEADER_LEN), length = ICMP_HEADER_LEN + quoted
    cdef uint8_t* icmp = reply + IPV6_HEADER_LEN
    cdef uint64_t sum
    memset(reply, 0, IPV6_HEADER_LEN + ICMP_HEADER_LEN)
    reply[0] = 0x60
    reply[IPV6_NEXT_HEADER] = ICMPV6
    reply[IPV6_HOP_LIMIT] = HOPS
    memcpy(reply + IPV6_SOURCE, packet + IPV6_DESTINATION, 16)
    memcpy(reply + IPV6_DESTINATION, packet + IPV6_SOURCE, 16)
    store_ip_len(reply, IPV6_HEADER_LEN + length)
    icmp[0] = kind
    icmp[1] = code
    store_be16(icmp + 6, field)
    memcpy(icmp + ICMP_HEADER_LEN, packet, quoted)
    sum = wh_sum_word(<uint16_t>length) + <uint64_t>wh_sum_word(ICMPV6)
    sum = wh_sum(reply + IPV6_SOURCE, 32, sum)
    store_checksum(icmp + 2, wh_sum(icmp, length, sum), False)
    return IPV6_HEADER_LEN + length


# --- hosts without IPv6 ---------------------------------------------------------------------------------------------

cdef size_t unreachable6(uint8_t* reply, size_t limit, const uint8_t* packet, size_t n) noexcept nogil:
    """No multicast, and no ICMPv6 error, nor what may be one, is answered (RFC 4443, 2.4 (e))."""
    cdef ip_layout ip
    cdef uint8_t code
    if packet[IPV6_DESTINATION] == 0xFF or parse_ip(&ip, packet, n) != WH_OK or skip_extensions(&ip, packet) != WH_OK:
        return 0
    if ip.protocol == FRAGMENT or ip.protocol == ICMPV6:
        if ip.transport_at == ip.total:
            return 0
        if packet[ip.transport_at] == ICMPV6 if ip.protocol == FRAGMENT else packet[ip.transport_at] < ICMP6_INFORMATIONAL:
            return 0
    code = ICMP6_NO_PORT if ip.protocol == UDP else ICMP6_NO_ADDRESS
    return error6(reply, limit, ICMP6_UNREACHABLE, code, 0, packet, n)
