"""One peer as Datapath changes it: found by its key, under the control lock. All raise KeyError where there is none, and
as the methods of the same purpose in datapath.pyx say."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from whcore.device cimport wh_device, wh_paths, wh_peer

# A change to a peer, under the control lock; what it is to do comes from argument. What it returns, with_peer() does.
ctypedef int (*peer_change)(wh_device* dev, wh_peer* peer, const void* argument) noexcept nogil
cdef int with_peer(wh_device* dev, bytes public_key, peer_change change, const void* argument) except? -1

# Raises InvalidKey, ValueError where the peer exists, MemoryError; never KeyError.
# psk: 32 bytes; zeros are WireGuard's for none.
cdef int new_peer(wh_device* dev, bytes public_key, bint managed, const uint8_t* psk) except -1
# The preshared key of two members of a network with a secret (docs/protocol.md section 2): the same for both.
cdef int derive_psk(uint8_t* psk, bytes network_secret, bytes one, bytes other) except -1
cdef bint is_peer(wh_device* dev, bytes public_key) except -1
cdef int drop_peer(wh_device* dev, bytes public_key) except -1
cdef int set_psk(wh_device* dev, bytes public_key, const uint8_t* psk) except -1       # 32 bytes
cdef int change_keepalive(wh_device* dev, bytes public_key, int64_t interval_ns) except -1
# fresh: NULL: none. The peer's from now on; freed where there is no such peer.
cdef int adopt_paths(wh_device* dev, bytes public_key, wh_paths* fresh) except -1
cdef int end_silence(wh_device* dev, bytes public_key) except -1
cdef int start_handshake(wh_device* dev, bytes public_key) except -1
cdef int count_received(wh_device* dev, bytes public_key, uint64_t* packets) except -1

# address: 4 or 16 bytes. Also raise ValueError where the prefix is none.
cdef int allow_prefix(wh_device* dev, bytes public_key, bytes address, int prefix_len) except -1
cdef int disallow_prefix(wh_device* dev, bytes public_key, bytes address, int prefix_len) except -1
cdef int disallow_all(wh_device* dev, bytes public_key) except -1
