"""What leaves for a peer outside of a worker's bursts: packets that waited for a session, keepalives, handshakes; and the
frame around a plaintext, which bursts have too."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

from whcore.device cimport wh_device, wh_path, wh_peer, wh_worker
from whcore.tunnel cimport keypair

# plaintext: n bytes with HEADROOM before and 48 bytes of room after; returns bytes of the datagram, which
# starts DATA_HEADER_LEN before plaintext.
cdef size_t data_frame(const wh_device* dev, keypair* kp, uint64_t counter, uint8_t* plaintext, size_t n) noexcept nogil
cdef size_t padded_len(const wh_device* dev, size_t n) noexcept nogil
cdef void peer_stage(wh_worker* w, wh_peer* peer, const uint8_t* packet, size_t n, int64_t now) noexcept nogil
cdef void peer_flush(wh_worker* w, wh_peer* peer, int64_t now) noexcept nogil
cdef bint peer_send_keepalive(wh_worker* w, wh_peer* peer, int64_t now) noexcept nogil
# One send as it is, without a channel header: one datagram, or with segment_len a run of such datagrams. hop_limit 0:
# the host's own. Returns whether the kernel took it; errno says why not.
cdef bint send_datagrams(const wh_device* dev, const wh_path* path, const uint8_t* data, size_t n, uint16_t segment_len,
                         uint8_t ecn, uint8_t hop_limit) noexcept nogil
# A datagram of the control channel, from another source address if the kernel refuses the one that path has. whole: it must
# not arrive in fragments. Returns as above.
cdef bint send_control_datagram(const wh_device* dev, wh_path* path, const uint8_t* data, size_t n, uint8_t hop_limit,
                                bint whole) noexcept nogil
# data: n bytes with CHANNEL_HEADER_LEN bytes of room before it. Returns as above.
cdef bint send_on_path(wh_device* dev, const wh_path* path, uint8_t* data, size_t n, uint8_t ecn) noexcept nogil
# The same to a peer: on the first path, and with `twice` on the second where there is one; from another source address
# if the kernel refuses the one we had. Returns how many copies the kernel took.
cdef int send_to_peer(wh_device* dev, wh_peer* peer, uint8_t* data, size_t n, uint8_t ecn, bint twice) noexcept nogil
cdef bint source_was_refused(int error) noexcept nogil
