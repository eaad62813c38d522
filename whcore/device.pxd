"""What the threads of one data plane share: peers, paths, indices, rings, deferred frees.

Lock order: control_lock, then stage_lock or retire_lock (spin locks; nothing is called under them).
- control_lock guards tunnels' handshake state, peers, indices, allowed-IPs writes, sockets.
- Packet workers read without locks: allowed-IPs, index entries, keypairs, paths. What they may still hold is freed
  only after each of them passed a quiescent point (see retire_later and reclaim).
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from whcore.aead cimport aead_context
from whcore.allowedips cimport allowedips_table
from whcore.arena cimport arena
from whcore.cookie cimport cookie_checker, proved_limiter, rate_limiter
from whcore.forwarder cimport forward_table
from whcore.kernel cimport pthread_mutex_t, pthread_t, sockaddr_storage, socklen_t
from whcore.sieve cimport control_sieve, unproved_budget
from whcore.tunnel cimport keypair, local_identity, retired_keypairs, tunnel
from whcore.udp cimport wh_source

cdef enum:
    MAX_SOCKETS = 64
    MAX_WORKERS = 16
    MAX_PEERS = 65536
    MAX_INDICES = 1 << 18           # three keypairs and a handshake for each peer
    SPECK_ROUNDS = 22
    KEY_BUCKETS = 4096
    HEADROOM = 32                   # before a plaintext: data header 16, channel header 8
    MAX_PACKET = 65456              # largest inner packet
    VNET_HEADER_LEN = 10            # struct virtio_net_hdr
    MAX_DATAGRAM = 65535            # of one receive, which GRO may fill with many
    STAGE_LIMIT = 128               # packets waiting for a session or a path, per peer
    CONTROL_DATA = 1472             # bytes of a control datagram at most
    HANDSHAKE_DATA = 160

cdef extern from *:
    """
    #define WH_STAGE_LIFETIME INT64_C(10000000000)
    """
    # ns; a staged packet that is older is of no use to whoever sent it (TCP and ping have long retried)
    const int64_t STAGE_LIFETIME "WH_STAGE_LIFETIME"

cdef enum:                          # counters
    COUNT_RX_DATA
    COUNT_TX_DATA
    COUNT_RX_HANDSHAKE
    COUNT_TX_HANDSHAKE
    COUNT_RX_CONTROL
    COUNT_TX_CONTROL
    DROP_UNKNOWN                    # first bytes of no protocol of ours
    DROP_LENGTH
    DROP_INDEX
    DROP_AUTH
    DROP_REPLAY
    DROP_EXPIRED                    # keypair past REJECT_AFTER_TIME
    DROP_INNER                      # plaintext is no IP packet
    DROP_SOURCE                     # inner source is not the peer's (crypto-routing)
    DROP_NO_PEER                    # destination is nobody's
    DROP_STAGE_FULL
    DROP_STAGE_OLD
    DROP_QUEUE_FULL                 # a ring to the handshake thread or to Python was full
    DROP_MAC
    DROP_HANDSHAKE                  # handshake that does not verify, flood or replay
    DROP_TUN_WRITE
    DROP_SEND
    DROP_TRUNCATED                  # the kernel had no room for a datagram or its ancillary data
    DROP_ECN                        # congestion marked outside, and the inner packet cannot carry the mark (RFC 6040)
    DROP_OFFLOAD                    # a TUN frame whose offload header makes no sense
    DROP_TOO_BIG                    # over the path MTU: answered with ICMP
    DROP_LOOP                       # our own datagram, which a route leads into the tunnel that it came from
    COUNT_COOKIE_SENT
    COUNT_TX_SENDS                  # system-level sends: tx_data / tx_sends is how well segmentation works
    COUNT_RX_RECEIVES
    COUNT_TUN_READS
    COUNT_TUN_WRITES
    COUNT_DUPLICATED                # frames also sent on a second path
    COUNT_FORWARDED                 # datagrams relayed
    DROP_FORWARD                    # CHANNEL datagrams of clients that match nothing or are over a limit
    DROP_UNPROVED                   # handshakes without a valid mac2, more than are looked at in a flood
    DROP_NO_IPV6                    # inner IPv6 for a host that has none: answered with ICMPv6, within limits
    COUNTERS

cdef enum:                          # what raise_event() tells Python of; see datapath.pyi
    EVENT_PATH_WANTED = 1
    EVENT_NEW_PATH = 2
    EVENT_HANDSHAKE = 3
    EVENT_HANDSHAKE_FAILED = 4
    EVENT_TUN_GONE = 5
    EVENT_PATH_SILENT = 6

cdef enum:                          # how a peer's two paths are used
    PATHS_PRIMARY = 0               # the first; the second too after silence_ns without an answer
    PATHS_DUPLICATE = 1             # every packet on both
    PATHS_SPLIT = 2                 # each inner flow on one of them; the other too after silence_ns without an answer

cdef struct wh_path:
    int socket
    uint8_t remote[18]              # of the peer, or of the relay where there is a channel
    uint32_t channel                # our leg at that relay, 0: none
    uint32_t link                   # interface index, where the address is of a link; else 0
    uint16_t mtu                    # largest IP datagram of the way, 0: not known
    sockaddr_storage address
    socklen_t address_len
    wh_source source                # leave from here; from where the kernel likes while unknown

cdef struct wh_paths:               # the ways to one peer; immutable once published: replaced as a whole
    int n                           # 1 or 2
    int mode
    int64_t silence_ns              # 0: never
    uint32_t inner_limit            # largest inner packet that each of them carries whole
    wh_path at[2]

cdef struct staged_packet:
    staged_packet* next
    int64_t staged_at
    uint32_t len
    uint8_t* data                   # HEADROOM bytes of room before it and 48 after, in the same allocation

cdef struct wh_peer:
    tunnel tunnel
    uint32_t slot
    uint32_t live
    uint32_t managed
    uint32_t handshake_wanted
    wh_paths* paths                 # atomic; NULL: none
    int64_t unanswered_at[2]        # by path: when the first packet was sent since silence last ended; 0: none; atomic
    int64_t silence_told[2]         # the unanswered_at that the engine was last told of
    int64_t silence_at              # when the timer thread looks whether that was too long ago; 0: never; atomic
    uint32_t second_answers         # the peer splits flows too, so the second path is expected not to be silent; atomic
    wh_peer* next_in_bucket
    uint32_t stage_lock
    uint32_t staged
    staged_packet* stage_head
    staged_packet* stage_tail
    int64_t path_wanted_at          # of the last event, for its rate
    uint32_t seen_lock
    int64_t seen_at                 # of the last EVENT_NEW_PATH
    uint8_t seen_remote[18]
    uint32_t seen_channel
    wh_source refused[2]            # addresses of ours that the peer may write to, and data never leaves from; seen_lock
    uint64_t rx_bytes               # of all messages that verified, handshakes too
    uint64_t tx_bytes
    uint64_t rx_packets             # the user's: not handshakes and keepalives
    uint64_t tx_packets
    int64_t refusals_until          # what of answers that it has no IPv6 here is used up, as a time; atomic

cdef struct wh_socket:
    int fd                          # -1: free slot
    int family
    uint32_t segment_limit          # longest datagram that UDP_SEGMENT may make of a send; 0: none, send singly

cdef struct index_entry:
    uint32_t index                  # 0: free
    uint32_t next_free
    keypair* kp                     # NULL: the index of a handshake in flight of `slot`
    uint32_t slot

cdef struct ring:                   # single producer, single consumer, fixed slots
    uint8_t* data
    uint32_t slots                  # a power of two
    uint32_t slot_size
    uint64_t head                   # consumer's
    uint64_t tail                   # producer's

cdef struct record:                 # one slot of any ring; data is as long as that ring's slots allow
    uint32_t kind
    uint32_t len
    int socket
    uint32_t channel
    uint8_t remote[18]
    uint8_t key[32]
    wh_source source
    uint8_t data[1]

cdef enum:
    RETIRED_MEMORY
    RETIRED_KEYPAIR
    RETIRED_PEER
    RETIRED_ALLOWEDIPS
    RETIRED_SOCKET
    RETIRED_FORWARDS

cdef struct retired:
    retired* next
    int kind
    void* item
    int fd
    uint64_t epoch

cdef struct wh_worker:              # also the context of the handshake thread, as worker index -1
    wh_device* device
    pthread_t thread
    int number
    int tun_fd
    bint vnet                       # reads and writes of tun_fd carry a virtio_net header
    uint16_t link_len               # and an Ethernet header behind it: 14, where tun_fd is a packet socket
    unsigned int tun_offloads       # TUN_F_* that the kernel granted
    int epoll_fd
    uint32_t running
    uint64_t epoch                  # UINT64_MAX while it holds nothing
    ring handshakes                 # to the handshake thread
    ring controls                   # to Python
    ring events                     # to Python
    bint useful                     # something came of what the last turn brought, or it brought all that it could
    unproved_budget cookies         # that it answers with
    rate_limiter cookie_shares      # of a sender's in them, before it must leave half to others
    unproved_budget inits           # without a valid mac2, that Python may see
    unproved_budget knocks
    uint32_t seen_index             # of the last data message, and the place it names: trains have one
    uint32_t seen_place
    uint64_t counters[COUNTERS]
    aead_context aead               # for data messages
    void* scratch                   # the worker's own buffers

cdef struct wh_device:
    pthread_mutex_t control_lock
    local_identity identity
    cookie_checker checker
    proved_limiter proved
    int64_t loaded_until            # the handshake thread asks for mac2 until then; atomic
    control_sieve* sieve            # atomic; NULL: every control datagram goes to Python
    arena peers
    arena keypairs
    wh_peer* by_key[KEY_BUCKETS]
    uint64_t key_hash_salt
    int64_t* next_check             # by peer slot: when the timer thread must look at it
    index_entry* indices
    uint32_t index_free             # slot + 1
    uint32_t index_high
    uint16_t index_keys[SPECK_ROUNDS]   # random: the permutation that makes indices out of slots
    allowedips_table allowed
    forward_table forwards
    wh_socket sockets[MAX_SOCKETS]
    wh_worker workers[MAX_WORKERS]
    int worker_count
    wh_worker timer                 # the handshake and timer thread
    int64_t sleep_until             # of the timer thread; atomic
    int kick_fd                     # wakes the timer thread
    int event_fd                    # wakes Python
    int stop_fd                     # readable: workers end
    uint32_t stopping
    int mtu
    uint32_t without_ipv6           # this host takes no inner IPv6: its kernel would drop it in silence
    uint64_t epoch
    uint32_t retire_lock
    uint32_t retired_count          # since the timer thread last freed some
    retired* retired_list
    int64_t last_stamp_ns           # Unix ns: no initiation was later; atomic
    uint32_t tun_gone               # the interface was deleted: an event that no full ring may lose
    uint64_t control_sent           # by Python's thread
    uint64_t control_refused

cdef int device_init(wh_device* dev, int mtu) noexcept nogil
cdef void device_destroy(wh_device* dev) noexcept nogil          # no thread may run

# Rings. push_* return False where the ring is full.
cdef int ring_init(ring* r, uint32_t slots, uint32_t data_len) noexcept nogil
cdef void ring_free(ring* r) noexcept nogil
cdef record* ring_reserve(ring* r) noexcept nogil                # NULL: full
cdef bint ring_publish(ring* r) noexcept nogil                   # whether it was empty
cdef record* ring_front(ring* r) noexcept nogil                  # NULL: empty
cdef void ring_pop(ring* r) noexcept nogil
cdef void raise_event(wh_worker* w, int kind, const uint8_t* key, const wh_path* path) noexcept nogil

# Peers and indices: under control_lock.
cdef wh_peer* peer_find(wh_device* dev, const uint8_t* key) noexcept nogil
cdef wh_peer* peer_add(wh_device* dev, const uint8_t* key, bint managed) noexcept nogil
cdef void peer_remove(wh_device* dev, wh_peer* peer) noexcept nogil
cdef wh_peer* peer_at(wh_device* dev, uint32_t slot) noexcept nogil
cdef uint32_t index_claim(wh_device* dev, keypair* kp, uint32_t slot) noexcept nogil     # 0: none left
cdef void index_release(wh_device* dev, uint32_t index) noexcept nogil
cdef void index_bind(wh_device* dev, uint32_t index, keypair* kp) noexcept nogil
cdef index_entry* index_find(wh_device* dev, uint32_t index) noexcept nogil              # lock-free
cdef index_entry* index_find_again(wh_worker* w, uint32_t index) noexcept nogil          # (worker) the same, for data
cdef void retire_keypairs(wh_device* dev, retired_keypairs* old) noexcept nogil

# Deferred frees. retire_later: any thread; reclaim: under control_lock.
cdef void retire_later(wh_device* dev, int kind, void* item, int fd) noexcept nogil
cdef void reclaim(wh_device* dev, bint all) noexcept nogil

# Timers and handshakes.
cdef void peer_check_at(wh_device* dev, wh_peer* peer, int64_t at) noexcept nogil
cdef void peer_want_handshake(wh_device* dev, wh_peer* peer) noexcept nogil
