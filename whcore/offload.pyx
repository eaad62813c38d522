"""Segmentation and coalescing of TCP and UDP, and the checksums that both need.

The two halves are each other's inverse: a packet is merged only if splitting the group gives back its bytes,
all but two things: the identification of an IPv4 packet with DF, which means nothing (RFC 6864, 4.1) and need not
be in step; and datagrams over IPv4 without a checksum, as tunnels send them, come out with one, since the kernel
segments no others.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from whcore.checksum cimport wh_load_word, wh_store_word, wh_sum, wh_sum_copy, wh_sum_fold, wh_sum_word
from whcore.errors cimport WH_E_LENGTH, WH_E_TYPE, WH_OK, raise_rc
from whcore.ip_packet cimport (
    ACK, CWR, FIN, ICMPV6, IPV4_CHECKSUM, IPV4_DONT_FRAGMENT, IPV4_FRAGMENT, IPV4_HEADER_LEN, IPV4_ID,
    IPV4_SOURCE, IPV6_HEADER_LEN, IPV6_SOURCE, PSH, TCP, TCP_ACK_NUMBER, TCP_CHECKSUM, TCP_DATA_OFFSET,
    TCP_FLAGS, TCP_HEADER_LEN, TCP_SEQUENCE, TCP_URGENT, TCP_WINDOW, UDP, UDP_CHECKSUM, UDP_HEADER_LEN,
    UDP_LENGTH, ip_layout, load_be16, load_be32, parse_ip, skip_extensions, store_be16, store_be32,
    store_checksum, store_ip_len,
)
from whcore.kernel cimport iovec
from whcore.udp cimport TUN_F_CSUM, TUN_F_TSO4, TUN_F_USO4, wh_tun_offloads

cdef enum:
    MERGED_MAX = 65535              # the longest IPv4 packet


# --- splitting ----------------------------------------------------------------------------------------------

cdef int split_begin(split_plan* plan, const virtio_net_hdr* header, const uint8_t* packet,
                     size_t n) noexcept nogil:
    cdef ip_layout ip
    cdef int rc = parse_ip(&ip, packet, n)
    if rc != WH_OK:
        return rc
    memset(plan, 0, sizeof(split_plan))
    plan.packet = packet
    plan.total = ip.total
    plan.segments = 1
    if header.gso_type == VNET_GSO_NONE:
        return plan_whole(plan, header, ip.transport_at)
    rc = skip_extensions(&ip, packet)
    if rc != WH_OK:
        return rc
    return plan_segments(plan, header, &ip)


cdef int plan_whole(split_plan* plan, const virtio_net_hdr* header, uint32_t ip_header_len) noexcept nogil:
    """The frame is one packet, perhaps with a checksum to complete, of whatever protocol has it."""
    if header.flags & VNET_NEEDS_CSUM:
        plan.transport_at = header.csum_start
        plan.checksum_at = <uint32_t>header.csum_start + header.csum_offset
        if plan.transport_at < ip_header_len or plan.checksum_at + 2 > plan.total:
            return WH_E_LENGTH
    return 1


cdef int plan_segments(split_plan* plan, const virtio_net_hdr* header, const ip_layout* ip) noexcept nogil:
    """A TCP or UDP frame to cut. Its own headers say where things are; the virtio header must agree."""
    cdef const uint8_t* transport = plan.packet + ip.transport_at
    cdef uint32_t room = ip.total - ip.transport_at, transport_len, checksum, payload
    cdef uint8_t tcp_type = VNET_GSO_TCPV4 if ip.version == 4 else VNET_GSO_TCPV6
    if ip.fragment or not header.flags & VNET_NEEDS_CSUM:
        return WH_E_TYPE
    if header.gso_type & ~VNET_GSO_ECN == tcp_type and ip.protocol == TCP:
        if room < TCP_HEADER_LEN:
            return WH_E_LENGTH
        transport_len = (transport[TCP_DATA_OFFSET] >> 4) * 4
        checksum = TCP_CHECKSUM
        if transport_len < TCP_HEADER_LEN:
            return WH_E_LENGTH
    elif header.gso_type == VNET_GSO_UDP_L4 and ip.protocol == UDP:
        transport_len = UDP_HEADER_LEN
        checksum = UDP_CHECKSUM
    else:
        return WH_E_TYPE
    if (
        room < transport_len or header.gso_size == 0
        or header.csum_start != ip.transport_at or header.csum_offset != checksum
    ):
        return WH_E_LENGTH
    payload = room - transport_len
    plan.protocol = ip.protocol
    plan.header_len = ip.transport_at + transport_len
    plan.gso_size = header.gso_size
    plan.transport_at = ip.transport_at
    plan.checksum_at = ip.transport_at + checksum
    # The kernel's sum of the pseudo-header knows more than we do (with a routing header the last destination
    # counts), so only the length in it is changed.
    plan.base_sum = <uint32_t>wh_load_word(transport + checksum) + <uint16_t>~wh_sum_word(<uint16_t>room)
    if payload > plan.gso_size:
        plan.segments = (payload + plan.gso_size - 1) // plan.gso_size
    return <int>plan.segments


cdef size_t split_len(const split_plan* plan, int i) noexcept nogil:
    if <uint32_t>i + 1 < plan.segments:
        return plan.header_len + plan.gso_size
    return plan.total - <uint32_t>i * plan.gso_size


cdef void split_write(const split_plan* plan, int i, uint8_t* out) noexcept nogil:
    if plan.protocol == 0:
        write_whole(plan, out)
    else:
        write_segment(plan, <uint32_t>i, out)


cdef void write_whole(const split_plan* plan, uint8_t* out) noexcept nogil:
    if out != plan.packet:
        memcpy(out, plan.packet, plan.total)
    if plan.checksum_at:
        # The field takes part: it holds the pseudo-header's sum.
        store_checksum(
            out + plan.checksum_at, wh_sum(out + plan.transport_at, plan.total - plan.transport_at, 0),
            plan.checksum_at - plan.transport_at == UDP_CHECKSUM,
        )


cdef void write_segment(const split_plan* plan, uint32_t i, uint8_t* out) noexcept nogil:
    cdef uint32_t n = <uint32_t>split_len(plan, <int>i)
    cdef uint8_t* transport = out + plan.transport_at
    cdef uint64_t sum
    memcpy(out, plan.packet, plan.header_len)
    if out[0] >> 4 == 4:
        store_be16(out + IPV4_ID, load_be16(out + IPV4_ID) + i)
    store_ip_len(out, n)
    if plan.protocol == TCP:
        store_be32(transport + TCP_SEQUENCE, load_be32(transport + TCP_SEQUENCE) + i * plan.gso_size)
        if i > 0:
            transport[TCP_FLAGS] &= <uint8_t>~CWR
        if i + 1 < plan.segments:
            transport[TCP_FLAGS] &= <uint8_t>~(FIN | PSH)
    else:
        store_be16(transport + UDP_LENGTH, n - plan.transport_at)
    wh_store_word(out + plan.checksum_at, 0)
    sum = plan.base_sum + <uint64_t>wh_sum_word(<uint16_t>(n - plan.transport_at))
    sum = wh_sum(transport, plan.header_len - plan.transport_at, sum)
    sum = wh_sum_copy(
        out + plan.header_len, plan.packet + plan.header_len + i * plan.gso_size, n - plan.header_len, sum
    )
    store_checksum(out + plan.checksum_at, sum, plan.protocol == UDP)


# --- coalescing ---------------------------------------------------------------------------------------------

cdef enum flow_kind:
    FLOW_NONE           # neither TCP nor UDP: no open group can be of its flow
    FLOW_HIDDEN         # TCP or UDP perhaps, but of unknown ports: a fragment, IP options, wrong lengths
    FLOW_ALONE          # of a known flow, but it joins nothing and nothing joins it
    FLOW_MERGEABLE

cdef struct inner_packet:
    uint8_t* data
    uint32_t len
    uint32_t transport_at
    uint32_t header_len
    uint32_t payload_len
    uint32_t flow       # hash, never 0
    uint8_t protocol
    bint push


cdef void coalescer_reset(coalescer* c, int offloads) noexcept nogil:
    c.offloads = offloads
    c.groups_len = 0
    c.taken = 0


cdef bint coalescer_add(coalescer* c, uint8_t* packet, size_t n) noexcept nogil:
    cdef inner_packet inner
    cdef flow_kind kind = inspect(&inner, packet, n, c.offloads)
    cdef int open = -1
    if kind == FLOW_HIDDEN:
        memset(c.flows, 0, c.groups_len * sizeof(uint32_t))
    elif kind != FLOW_NONE:
        open = open_group(c, &inner)
    if open >= 0:
        if kind == FLOW_MERGEABLE and may_join(&c.groups[open], &inner):
            if join(&c.groups[open], &inner):
                c.flows[open] = 0
            return True
        c.flows[open] = 0
    if c.groups_len == COALESCE_GROUPS:
        return False
    c.flows[c.groups_len] = inner.flow if kind == FLOW_MERGEABLE and not inner.push else 0
    start_group(&c.groups[c.groups_len], &inner)
    c.groups_len += 1
    return True


cdef flow_kind inspect(inner_packet* inner, uint8_t* packet, size_t n, int offloads) noexcept nogil:
    cdef ip_layout ip
    memset(inner, 0, sizeof(inner_packet))
    inner.data = packet
    inner.len = <uint32_t>n
    if parse_ip(&ip, packet, n) != WH_OK or ip.total != n:
        return FLOW_HIDDEN
    if ip.protocol != TCP and ip.protocol != UDP:
        # An unknown protocol of IPv6 may be an extension header before TCP or UDP.
        return FLOW_NONE if ip.version == 4 or ip.protocol == ICMPV6 else FLOW_HIDDEN
    if ip.version == 4 and ip.transport_at != IPV4_HEADER_LEN:
        return FLOW_HIDDEN
    if ip.fragment or n - ip.transport_at < UDP_HEADER_LEN:
        return FLOW_HIDDEN
    inner.protocol = ip.protocol
    inner.transport_at = ip.transport_at
    inner.flow = flow_hash(packet, ip.version, ip.protocol)
    if ip.protocol == TCP:
        return inspect_tcp(inner) if offloads & COALESCE_TCP else FLOW_ALONE
    return inspect_udp(inner) if offloads & COALESCE_UDP else FLOW_ALONE


cdef flow_kind inspect_tcp(inner_packet* inner) noexcept nogil:
    cdef const uint8_t* tcp = inner.data + inner.transport_at
    cdef uint32_t room = inner.len - inner.transport_at, tcp_header_len
    if room < TCP_HEADER_LEN:
        return FLOW_ALONE
    tcp_header_len = (tcp[TCP_DATA_OFFSET] >> 4) * 4
    if tcp_header_len < TCP_HEADER_LEN or tcp_header_len >= room:
        return FLOW_ALONE
    # Any other flag has a meaning for one packet only; so have reserved bits, AccECN's (RFC 9768) among them.
    if tcp[TCP_FLAGS] & ~PSH != ACK or tcp[TCP_DATA_OFFSET] & 15:
        return FLOW_ALONE
    inner.push = tcp[TCP_FLAGS] & PSH != 0
    inner.header_len = inner.transport_at + tcp_header_len
    inner.payload_len = room - tcp_header_len
    return FLOW_MERGEABLE


cdef flow_kind inspect_udp(inner_packet* inner) noexcept nogil:
    cdef const uint8_t* udp = inner.data + inner.transport_at
    cdef uint32_t room = inner.len - inner.transport_at
    if load_be16(udp + UDP_LENGTH) != room:
        return FLOW_ALONE
    # An empty datagram would vanish in a group. IPv6 allows no checksum to whoever asked for that only (RFC 6935).
    if room == UDP_HEADER_LEN or (inner.transport_at != IPV4_HEADER_LEN and without_checksum(inner.data, inner.transport_at)):
        return FLOW_ALONE
    inner.header_len = inner.transport_at + UDP_HEADER_LEN
    inner.payload_len = room - UDP_HEADER_LEN
    return FLOW_MERGEABLE


cdef inline bint without_checksum(const uint8_t* packet, uint32_t transport_at) noexcept nogil:
    """Of UDP (RFC 768)."""
    return wh_load_word(packet + transport_at + UDP_CHECKSUM) == 0


cdef inline uint32_t flow_hash(const uint8_t* packet, uint8_t version, uint8_t protocol) noexcept nogil:
    """Of addresses, ports and protocol; never 0. Collisions are harmless: flows are compared too."""
    cdef uint32_t i, mixed = protocol
    cdef uint32_t first = IPV4_SOURCE if version == 4 else IPV6_SOURCE
    cdef uint32_t last = IPV4_HEADER_LEN + 4 if version == 4 else IPV6_HEADER_LEN + 4
    for i in range(first, last, 4):
        mixed = (mixed ^ load_be32(packet + i)) * <uint32_t>0x9E3779B1
    return mixed | 1


cdef inline int open_group(const coalescer* c, const inner_packet* inner) noexcept nogil:
    """The number of the group that the packet's flow has open, or -1. A flow has one at most."""
    cdef int i
    for i in range(<int>c.groups_len):
        if c.flows[i] == inner.flow and same_flow(&c.groups[i], inner):
            return i
    return -1


cdef bint same_flow(const coalesce_group* group, const inner_packet* inner) noexcept nogil:
    """Addresses and ports are neighbours in memory, there being no options."""
    cdef const uint8_t* a = <const uint8_t*>group.vectors[1].iov_base
    cdef const uint8_t* b = inner.data
    cdef uint32_t addresses_at = IPV4_SOURCE if inner.transport_at == IPV4_HEADER_LEN else IPV6_SOURCE
    return (
        group.protocol == inner.protocol and group.transport_at == inner.transport_at
        and memcmp(a + addresses_at, b + addresses_at, group.transport_at + 4 - addresses_at) == 0
    )


cdef bint may_join(coalesce_group* group, const inner_packet* inner) noexcept nogil:
    """Whether a mergeable packet continues its flow's open group: cheap questions first, checksums last."""
    cdef const uint8_t* first = <const uint8_t*>group.vectors[1].iov_base
    if (
        inner.header_len != group.header_len or inner.payload_len > group.gso_size
        or group.packets == COALESCE_PACKETS or group.total + inner.payload_len > MERGED_MAX
        or not same_ip_fields(group, first, inner.data)
        or (inner.protocol == TCP and not same_tcp_fields(group, first, inner.data))
        or (inner.protocol == UDP and not same_udp_fields(group, first, inner.data))
    ):
        return False
    # The first packet was not verified so far: most flows have one packet in a batch.
    if not group.verified:
        group.verified = checksums_right(first, group.vectors[1].iov_len, group.transport_at, group.protocol)
    return group.verified and checksums_right(inner.data, inner.len, inner.transport_at, inner.protocol)


cdef bint same_ip_fields(const coalesce_group* group, const uint8_t* first,
                         const uint8_t* packet) noexcept nogil:
    """What one header states for all: traffic class, ECN, TTL, DF, flow label; identifications in step."""
    if group.transport_at == IPV6_HEADER_LEN:
        return memcmp(first, packet, 4) == 0 and memcmp(first + 6, packet + 6, 2) == 0
    if first[1] != packet[1] or memcmp(first + IPV4_FRAGMENT, packet + IPV4_FRAGMENT, 4) != 0:
        return False
    # With DF, and no fragment at that, the identification means nothing (RFC 6864, 4.1).
    return (
        load_be16(packet + IPV4_FRAGMENT) & IPV4_DONT_FRAGMENT != 0
        or load_be16(packet + IPV4_ID) == group.next_id
    )


cdef bint same_tcp_fields(const coalesce_group* group, const uint8_t* first,
                          const uint8_t* packet) noexcept nogil:
    """The next bytes of the stream, with the same acknowledgement, window, urgent pointer and options."""
    cdef const uint8_t* a = first + group.transport_at
    cdef const uint8_t* b = packet + group.transport_at
    return (
        load_be32(b + TCP_SEQUENCE) == group.next_sequence
        and memcmp(a + TCP_ACK_NUMBER, b + TCP_ACK_NUMBER, TCP_FLAGS - TCP_ACK_NUMBER) == 0
        and memcmp(a + TCP_WINDOW, b + TCP_WINDOW, 2) == 0
        and memcmp(a + TCP_URGENT, b + TCP_URGENT, group.header_len - group.transport_at - TCP_URGENT) == 0
    )


cdef inline bint same_udp_fields(const coalesce_group* group, const uint8_t* first, const uint8_t* packet) noexcept nogil:
    """All or none of a group come with a checksum: none that is right may be made up for what had none."""
    return without_checksum(first, group.transport_at) == without_checksum(packet, group.transport_at)


cdef inline uint64_t pseudo_header_sum(const uint8_t* packet, uint32_t transport_at, uint8_t protocol,
                                       uint32_t transport_len) noexcept nogil:
    """RFC 9293, 3.1 and RFC 8200, 8.1, for headers without options or extensions."""
    cdef uint32_t addresses_at = IPV4_SOURCE if transport_at == IPV4_HEADER_LEN else IPV6_SOURCE
    return wh_sum(
        packet + addresses_at, transport_at - addresses_at,
        <uint64_t>wh_sum_word(protocol) + wh_sum_word(<uint16_t>transport_len),
    )


cdef bint checksums_right(const uint8_t* packet, size_t n, uint32_t transport_at,
                          uint8_t protocol) noexcept nogil:
    """Whether the checksums of IPv4 header and transport are those that splitting would write, or UDP has none. ffff,
    where it is another way to write 0, is not."""
    cdef uint32_t checksum_at = transport_at + (TCP_CHECKSUM if protocol == TCP else UDP_CHECKSUM)
    if transport_at == IPV4_HEADER_LEN and (
        wh_load_word(packet + IPV4_CHECKSUM) == 0xFFFF
        or wh_sum_fold(wh_sum(packet, IPV4_HEADER_LEN, 0)) != 0xFFFF
    ):
        return False
    if protocol == UDP and without_checksum(packet, transport_at):
        return True
    if protocol == TCP and wh_load_word(packet + checksum_at) == 0xFFFF:
        return False
    return wh_sum_fold(
        wh_sum(
            packet + transport_at, n - transport_at,
            pseudo_header_sum(packet, transport_at, protocol, <uint32_t>(n - transport_at)),
        )
    ) == 0xFFFF


cdef void start_group(coalesce_group* group, const inner_packet* inner) noexcept nogil:
    memset(&group.header, 0, sizeof(virtio_net_hdr))
    group.vectors[0].iov_base = &group.header
    group.vectors[0].iov_len = sizeof(virtio_net_hdr)
    group.vectors[1].iov_base = inner.data
    group.vectors[1].iov_len = inner.len
    group.packets = 1
    group.total = inner.len
    group.protocol = inner.protocol
    group.verified = False
    group.transport_at = inner.transport_at
    group.header_len = inner.header_len
    group.gso_size = inner.payload_len
    if inner.payload_len == 0:      # not mergeable
        return
    group.next_id = <uint16_t>(load_be16(inner.data + IPV4_ID) + 1)
    if inner.protocol == TCP:
        group.next_sequence = load_be32(inner.data + inner.transport_at + TCP_SEQUENCE) + inner.payload_len


cdef bint join(coalesce_group* group, const inner_packet* inner) noexcept nogil:
    """Append a packet's payload. True: it was the last that the group can take."""
    cdef uint8_t* first = <uint8_t*>group.vectors[1].iov_base
    group.packets += 1
    group.vectors[group.packets].iov_base = inner.data + inner.header_len
    group.vectors[group.packets].iov_len = inner.payload_len
    group.total += inner.payload_len
    group.next_id += 1
    group.next_sequence += inner.payload_len
    if inner.push:
        first[group.transport_at + TCP_FLAGS] |= PSH
    return inner.push or inner.payload_len < group.gso_size or group.packets == COALESCE_PACKETS


cdef int coalescer_next(coalescer* c, iovec** vectors, size_t* total) noexcept nogil:
    cdef coalesce_group* group
    if c.taken == c.groups_len:
        coalescer_reset(c, c.offloads)
        return 0
    group = &c.groups[c.taken]
    c.flows[c.taken] = 0
    c.taken += 1
    if group.packets > 1:
        finish_group(group)
    vectors[0] = group.vectors
    total[0] = sizeof(virtio_net_hdr) + group.total
    return <int>group.packets + 1


cdef void link_header_on(iovec* vectors) noexcept nogil:
    cdef virtio_net_hdr* header = <virtio_net_hdr*>vectors[0].iov_base
    write_link_header(header, <const uint8_t*>vectors[1].iov_base)
    vectors[0].iov_len = sizeof(virtio_net_hdr) + LINK_HEADER_LEN


cdef void write_link_header(virtio_net_hdr* header, const uint8_t* packet) noexcept nogil:
    cdef uint8_t* link = <uint8_t*>header + sizeof(virtio_net_hdr)
    memset(link, 0, LINK_HEADER_LEN)
    link[0] = 0x02                  # locally administered: 02:00:00:00:00:01, as wh/net/private/packet_interface.py has it
    link[5] = 0x01
    store_be16(link + 12, 0x0800 if packet[0] >> 4 == 4 else 0x86DD)
    if header.flags & VNET_NEEDS_CSUM:
        header.csum_start += LINK_HEADER_LEN
    if header.gso_type != VNET_GSO_NONE:
        header.hdr_len += LINK_HEADER_LEN


cdef void finish_group(coalesce_group* group) noexcept nogil:
    """Make the first packet's header that of the whole. Its checksum field gets the sum of the pseudo-header,
    not complemented: what NEEDS_CSUM means."""
    cdef uint8_t* packet = <uint8_t*>group.vectors[1].iov_base
    cdef uint32_t transport_len = group.total - group.transport_at
    cdef uint32_t checksum = TCP_CHECKSUM if group.protocol == TCP else UDP_CHECKSUM
    group.header.flags = VNET_NEEDS_CSUM
    group.header.hdr_len = <uint16_t>group.header_len
    group.header.gso_size = <uint16_t>group.gso_size
    group.header.csum_start = <uint16_t>group.transport_at
    group.header.csum_offset = <uint16_t>checksum
    if group.protocol == UDP:
        group.header.gso_type = VNET_GSO_UDP_L4
        store_be16(packet + group.transport_at + UDP_LENGTH, transport_len)
    else:
        group.header.gso_type = VNET_GSO_TCPV4 if packet[0] >> 4 == 4 else VNET_GSO_TCPV6
    store_ip_len(packet, group.total)
    wh_store_word(
        packet + group.transport_at + checksum,
        wh_sum_fold(pseudo_header_sum(packet, group.transport_at, group.protocol, transport_len)),
    )


# --- for tests ----------------------------------------------------------------------------------------------

HEADER_LEN = sizeof(virtio_net_hdr)


cdef uint8_t* exact_copy(bytes data) except NULL:
    """In an allocation of its own, so that a sanitizer sees a read past its end."""
    cdef uint8_t* copy = <uint8_t*>malloc(len(data) or 1)
    if copy == NULL:
        raise MemoryError
    memcpy(copy, <const uint8_t*>data, len(data))
    return copy


cdef bytes segment(const split_plan* plan, int i):
    cdef size_t n = split_len(plan, i)
    cdef uint8_t* out = <uint8_t*>malloc(n)
    if out == NULL:
        raise MemoryError
    split_write(plan, i, out)
    try:
        return PyBytes_FromStringAndSize(<char*>out, n)
    finally:
        free(out)


def split(bytes header, bytes packet):
    """The packets of one frame as it is read from a TUN."""
    cdef virtio_net_hdr vnet
    cdef split_plan plan
    cdef uint8_t* frame
    cdef int segments, i
    if len(header) != sizeof(virtio_net_hdr):
        raise ValueError(f"a virtio header has {sizeof(virtio_net_hdr)} bytes")
    memcpy(&vnet, <const uint8_t*>header, sizeof(virtio_net_hdr))
    frame = exact_copy(packet)
    try:
        segments = split_begin(&plan, &vnet, frame, len(packet))
        if segments < 0:
            raise_rc(segments, "TUN frame")
        return [segment(&plan, i) for i in range(segments)]
    finally:
        free(frame)


cdef list taken_frames(coalescer* c):
    cdef iovec* vectors
    cdef size_t total
    cdef int n = coalescer_next(c, &vectors, &total)
    cdef int i
    cdef list frames = []
    while n:
        parts = [PyBytes_FromStringAndSize(<char*>vectors[i].iov_base, vectors[i].iov_len) for i in range(n)]
        frame = b"".join(parts)
        if <size_t>len(frame) != total:
            raise RuntimeError("a group's vectors and its length disagree")
        frames.append((parts[0], frame[len(parts[0]):]))
        n = coalescer_next(c, &vectors, &total)
    return frames


def coalesce(packets, *, bint tcp=True, bint udp=True):
    """The frames to write to a TUN for a batch of packets."""
    cdef coalescer* c = <coalescer*>malloc(sizeof(coalescer))
    cdef list frames = []
    cdef list copies = []
    cdef uint8_t* copy
    cdef size_t address
    if c == NULL:
        raise MemoryError
    coalescer_reset(c, (COALESCE_TCP if tcp else 0) | (COALESCE_UDP if udp else 0))
    try:
        for packet in packets:
            copy = exact_copy(packet)
            copies.append(<size_t>copy)
            if not coalescer_add(c, copy, len(packet)):
                frames += taken_frames(c)
                coalescer_add(c, copy, len(packet))
        return frames + taken_frames(c)
    finally:
        for address in copies:
            free(<void*>address)
        free(c)


def granted(int fd):
    """Names of the offloads that a TUN, or a packet socket in its place, has from now on."""
    cdef unsigned int bits = wh_tun_offloads(fd)
    names = (("checksums", TUN_F_CSUM), ("TSO", TUN_F_TSO4), ("USO", TUN_F_USO4))
    return tuple([name for name, bit in names if bits & bit])
