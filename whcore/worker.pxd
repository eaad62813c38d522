"""The packet worker threads and the buffers that their two directions share.

A worker takes turns between its TUN queue and the UDP sockets, so both directions use the same scratch memory.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from whcore.aead cimport aead_job
from whcore.device cimport MAX_DATAGRAM, wh_device, wh_paths, wh_peer, wh_worker
from whcore.kernel cimport iovec, mmsghdr, sockaddr_storage
from whcore.offload cimport coalescer
from whcore.tunnel cimport keypair
from whcore.udp cimport WH_CONTROL_LEN, wh_ancillary

cdef enum:
    MAX_FRAMES = 1024               # data messages of one burst, either direction
    FRAME_ROOM = 512 * 1024         # bytes that outgoing frames of one burst take; checked before each TUN read
    SPLIT_ROOM = 256 * 1024         # what splitting one 64 kB TUN frame can add to that
    RECEIVES = 16                   # datagrams, each of them perhaps many by GRO, of one recvmmsg
    RUN_SEGMENTS = 64               # UDP_MAX_SEGMENTS of the kernel
    RUN_BYTES = 65000               # a datagram's 65,507 less room for what headers differ by family

cdef struct frame:                  # one data message on its way out
    wh_peer* peer
    keypair* kp
    wh_paths* paths
    uint64_t counter
    uint8_t* data                   # of the datagram; CHANNEL_HEADER_LEN bytes of room before it
    uint32_t len                    # of the datagram
    uint8_t ecn
    uint8_t second                  # belongs on the second path (PATHS_SPLIT)
    uint8_t both                    # goes out on the second path too
    uint8_t sent

cdef struct received:               # one data message on its way in
    keypair* kp
    int origin                      # which datagram of the burst it was in
    uint32_t channel                # our leg, if it came through a relay

cdef struct scratch:
    aead_job jobs[MAX_FRAMES]
    mmsghdr messages[MAX_FRAMES]
    iovec vectors[MAX_FRAMES]
    int order[MAX_FRAMES]           # the frame behind each vector
    uint8_t controls[MAX_FRAMES][WH_CONTROL_LEN]
    # outgoing
    uint8_t tun_header[16]
    uint8_t link_header[16]
    uint8_t tun_frame[MAX_DATAGRAM + 1]
    uint8_t tun_piece[MAX_DATAGRAM + 1]     # a fragment of it
    frame frames[MAX_FRAMES]
    uint8_t room[FRAME_ROOM + SPLIT_ROOM]
    # incoming
    sockaddr_storage sources[RECEIVES]
    wh_ancillary ancillary[RECEIVES]
    uint8_t datagrams[RECEIVES][MAX_DATAGRAM + 1]
    received arrivals[MAX_FRAMES]
    coalescer flows

# Prepare worker `number` with a TUN queue fd, or -1 for none. WH_OK or WH_E_MEMORY. Nothing is started.
cdef int worker_init(wh_worker* w, wh_device* dev, int number, int tun_fd) noexcept nogil
cdef int worker_start(wh_worker* w) noexcept nogil      # 0 or an errno
cdef int worker_watch(wh_worker* w, int socket) noexcept nogil
cdef void worker_unwatch(wh_worker* w, int socket) noexcept nogil
cdef void worker_free(wh_worker* w) noexcept nogil      # after it was joined
