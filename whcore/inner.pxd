"""What the data plane must know of the IP packets inside the tunnel."""

from libc.stdint cimport uint8_t, uint32_t

from whcore.device cimport wh_device, wh_path, wh_worker

# Total length that the IP header states; 0 where there is no such header or it states more than n bytes.
cdef size_t inner_length(const uint8_t* packet, size_t n) noexcept nogil
# The peer that the packet's destination, or source, belongs to; ALLOWEDIPS_NONE for nobody's.
cdef uint32_t inner_peer(const wh_device* dev, const uint8_t* packet, bint source) noexcept nogil
# Of addresses and ports, the same for both directions of a flow.
cdef uint32_t flow_hash(const uint8_t* packet) noexcept nogil
# Congestion mark of the outer header into the inner one (RFC 6040, 4.2). False: the packet must be dropped.
cdef bint carry_ecn(uint8_t* packet, uint8_t outer_ecn) noexcept nogil
# Largest inner packet that the path carries whole.
cdef size_t inner_limit(const wh_path* path) noexcept nogil
# A packet over that limit: answer it with ICMP too-big into the TUN (RFC 1191, RFC 8201). False for an IPv4 packet
# that may be fragmented on the way: it is sent as it is, in fragments of the outer datagram.
cdef bint answer_too_big(wh_worker* w, const wh_path* path, const uint8_t* packet, size_t n) noexcept nogil
