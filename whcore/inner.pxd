"""What the data plane must know of the IP packets inside the tunnel."""

from libc.stdint cimport uint8_t, uint32_t

from whcore.device cimport wh_device, wh_path, wh_peer, wh_worker

# Total length that the IP header states; 0 where there is no such header or it states more than n bytes.
cdef size_t inner_length(const uint8_t* packet, size_t n) noexcept nogil
# The peer that the packet's destination, or source, belongs to; ALLOWEDIPS_NONE for nobody's.
cdef uint32_t inner_peer(const wh_device* dev, const uint8_t* packet, bint source) noexcept nogil
# Of addresses and ports, the same for both directions of a flow.
cdef uint32_t flow_hash(const uint8_t* packet) noexcept nogil
# Congestion mark of the outer header into the inner one (RFC 6040, 4.2). False: the packet must be dropped.
cdef bint carry_ecn(uint8_t* packet, uint8_t outer_ecn) noexcept nogil
# Whether a packet is one of our own datagrams on this path (or the first fragment of one) that a route leads back into
# the tunnel: sealed again and again it would breed for ever.
cdef bint inner_is_own(wh_peer* peer, const wh_path* path, const uint8_t* packet, size_t n) noexcept nogil

# A packet, or frame of packets of segment_len bytes, longer than mtu: answer it with ICMP too-big into the TUN (RFC 1191,
# RFC 8201). False where it is to be fragmented: IPv4 without DF, and IPv6 of a size that each link must carry.
cdef bint answer_too_big(wh_worker* w, size_t mtu, const uint8_t* packet, size_t n, size_t segment_len) noexcept nogil

# The answer, at most limit bytes, to an IPv6 packet for a host that has no IPv6 (RFC 4443, 3.1): port unreachable to UDP,
# which no other code ends, else address unreachable. Returns its length; 0: there is to be none.
cdef size_t unreachable6(uint8_t* reply, size_t limit, const uint8_t* packet, size_t n) noexcept nogil
