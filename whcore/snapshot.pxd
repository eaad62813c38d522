"""What status asks for, copied at one moment and turned into Python objects without any lock."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from whcore.device cimport wh_device

cdef struct peer_snapshot:
    uint8_t key[32]
    uint8_t psk[32]
    uint32_t slot
    bint managed
    bint has_session
    int path_socket             # -1: no path
    uint8_t remote[18]
    uint32_t link               # interface index of a link-local remote, else 0
    int64_t handshake_ns        # Unix time; 0: never
    int64_t keepalive_ns
    uint64_t rx_bytes
    uint64_t tx_bytes
    uint64_t rx_packets
    uint64_t tx_packets

cdef struct prefix_snapshot:
    uint8_t address[16]
    int address_len             # 4 or 16
    int prefix_len
    uint32_t slot

cdef struct prefix_list:
    prefix_snapshot* items
    size_t n
    size_t room

# Copy every peer and prefix, under the control lock. The caller gives peers[0] to sodium_free (it holds preshared
# keys) and prefixes.items to free. Returns the number of peers.
cdef size_t take_snapshot(wh_device* dev, peer_snapshot** peers, prefix_list* prefixes) except? 0
cdef list peer_statuses(wh_device* dev)     # a PeerStatus for each peer
cdef dict sum_counters(wh_device* dev)      # packets by kind and drops by reason since start, summed over threads
