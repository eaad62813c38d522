"""The Python handle on a data plane, for the core's own use (uapi.pyx)."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from whcore.device cimport wh_device
from whcore.keys cimport SecretKey

cdef struct peer_snapshot:
    uint8_t key[32]
    uint8_t psk[32]
    uint32_t slot
    bint managed
    bint has_session
    int path_socket             # -1: no path
    uint8_t remote[18]
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

cdef dict allowed_by_slot(const prefix_list* prefixes)

cdef class Datapath:
    cdef wh_device* dev
    cdef readonly SecretKey secret
    cdef bint started

    cdef wh_device* device(self) except NULL
    cdef int put_psk(self, bytes public_key, const uint8_t* psk) except -1
    cdef size_t snapshot(self, peer_snapshot** peers, prefix_list* prefixes) except? 0
