"""Ancillary data of UDP datagrams and offloads of the TUN; see udp.h."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from whcore.kernel cimport msghdr

cdef enum:
    CONTROL_WORDS = 32                  # WH_CONTROL_LEN in words, for buffers that must be aligned

cdef extern from "udp.h" nogil:
    enum: WH_CONTROL_LEN                # bytes that all ancillary data of a datagram needs at most
    enum: TUN_F_CSUM
    enum: TUN_F_TSO4
    enum: TUN_F_USO4

    struct wh_source:
        uint8_t address[16]
        uint32_t ifindex
        uint8_t known
        uint8_t stay

    struct wh_ancillary:
        wh_source source
        uint16_t segment_len
        uint8_t ecn

    bint wh_udp_prepare(int fd, int family)
    bint wh_udp_let_fragment(int fd, bint let)
    void wh_udp_received(msghdr* message, wh_ancillary* out)
    void wh_udp_control(msghdr* message, void* buffer, int family, uint16_t segment_len, uint8_t ecn,
                        const wh_source* source)
    void wh_udp_hop_limit(msghdr* message, void* buffer, int family, uint8_t hop_limit)
    unsigned int wh_tun_offloads(int fd)
    bint wh_tun_has_header(int fd)
    bint wh_is_packet_socket(int fd)
