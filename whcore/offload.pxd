"""Between the kernel's large frames and single packets: split what is read from a TUN, merge what is written.

Lengths are bytes of whole IP packets unless said otherwise. Nothing here allocates, blocks or copies payload,
except split_write, whose work is the copy. Sources: virtio 1.2 section 5.1.6, linux/virtio_net.h.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from whcore.kernel cimport iovec

cdef enum:
    # virtio_net_hdr.flags
    VNET_NEEDS_CSUM = 1             # the checksum field holds the sum of the pseudo-header only
    # virtio_net_hdr.gso_type
    VNET_GSO_NONE = 0
    VNET_GSO_TCPV4 = 1
    VNET_GSO_TCPV6 = 4
    VNET_GSO_UDP_L4 = 5             # UDP segmentation ("USO"), since Linux 6.2
    VNET_GSO_ECN = 0x80             # with TCP only: CWR is set

cdef struct virtio_net_hdr:         # 10 bytes, the machine's byte order
    uint8_t flags
    uint8_t gso_type
    uint16_t hdr_len
    uint16_t gso_size               # payload bytes of each segment but the last
    uint16_t csum_start             # from here to the end is checksummed
    uint16_t csum_offset            # from csum_start to the checksum field


# --- Ethernet, where a veth pair stands in for a TUN ---------------------------------------------------------

cdef enum:
    LINK_HEADER_LEN = 14            # Ethernet: destination 6, source 6, type 2

# Count from the IP header on what the kernel counts from the link header on: csum_start and hdr_len.
cdef inline void link_header_off(virtio_net_hdr* header, uint16_t link_len) noexcept nogil:
    if header.flags & VNET_NEEDS_CSUM:
        header.csum_start -= link_len
    if header.gso_type != VNET_GSO_NONE:
        header.hdr_len -= link_len

# --- from the TUN -------------------------------------------------------------------------------------------

cdef struct split_plan:
    const uint8_t* packet           # not owned: it must stay as it is until the last split_write
    uint32_t total                  # of the frame
    uint32_t segments
    uint32_t header_len             # IP and transport header: each segment begins with them
    uint32_t gso_size               # payload bytes of each segment but the last
    uint32_t transport_at           # where the checksummed part begins
    uint32_t checksum_at            # where its checksum is; 0: leave it alone
    uint32_t base_sum               # of the pseudo-header without its length
    uint8_t protocol                # 6 or 17: cut segments; 0: the one segment is the frame

# Judge one frame read from a TUN: its header and n bytes from the IP header on. Returns how many segments, 1
# to 65,535; WH_E_LENGTH where lengths contradict each other or n; WH_E_TYPE for a kind nobody asked for.
cdef int split_begin(split_plan* plan, const virtio_net_hdr* header, const uint8_t* packet,
                     size_t n) noexcept nogil
# i: 0 .. segments - 1.
cdef size_t split_len(const split_plan* plan, int i) noexcept nogil
# Write segment i, split_len bytes. out must not overlap the frame, but may be the frame where that is one
# packet (protocol 0).
cdef void split_write(const split_plan* plan, int i, uint8_t* out) noexcept nogil

# The ECN field (RFC 3168) of an IPv4 or IPv6 packet of at least 2 bytes.
cdef inline uint8_t packet_ecn(const uint8_t* packet) noexcept nogil:
    return packet[1] & 3 if packet[0] >> 4 == 4 else packet[1] >> 4 & 3


# --- to the TUN ---------------------------------------------------------------------------------------------

cdef enum:
    COALESCE_TCP = 1                # the TUN takes TSO4 and TSO6
    COALESCE_UDP = 2                # the TUN takes USO4 and USO6
    COALESCE_PACKETS = 64           # of one group; also the most that every kernel's UDP_MAX_SEGMENTS allows
    COALESCE_GROUPS = 64

cdef struct coalesce_group:
    virtio_net_hdr header
    uint8_t link[LINK_HEADER_LEN]   # follows the header without a gap; written by link_header_on
    uint8_t protocol                # 6 or 17
    bint verified                   # the first packet's checksums were found right
    uint16_t next_id                # IPv4
    uint32_t next_sequence          # TCP
    uint32_t packets
    uint32_t total                  # of the packet that the group becomes
    uint32_t transport_at
    uint32_t header_len
    uint32_t gso_size
    iovec vectors[1 + COALESCE_PACKETS]     # the header, the first packet, then payloads

cdef struct coalescer:
    int offloads
    uint32_t groups_len
    uint32_t taken
    uint32_t flows[COALESCE_GROUPS] # hash of the flow whose next packet may join the group; 0: closed
    coalesce_group groups[COALESCE_GROUPS]

# Empty it. offloads: what may be produced, COALESCE_TCP | COALESCE_UDP; 0: every packet stays alone.
cdef void coalescer_reset(coalescer* c, int offloads) noexcept nogil
# Add one IP packet of exactly n bytes. It must stay where it is, and may change, until its group was written.
# False: no group is free; take them all first, then add it again.
cdef bint coalescer_add(coalescer* c, uint8_t* packet, size_t n) noexcept nogil
# Take the next group, in the order of their first packets. Sets vectors (the virtio header, then the first
# packet and payloads; valid until the next coalescer_add) and total (bytes of all, what writev returns).
# Returns how many vectors, 0 at the end: then the coalescer is empty again.
cdef int coalescer_next(coalescer* c, iovec** vectors, size_t* total) noexcept nogil
# Let the first vector of a taken group hold the virtio header and an Ethernet header.
cdef void link_header_on(iovec* vectors) noexcept nogil
# Put the Ethernet header of a packet behind its virtio header, where room for it must be, and count it there.
cdef void write_link_header(virtio_net_hdr* header, const uint8_t* packet) noexcept nogil
