"""One WireGuard peer without I/O: handshakes, keypairs, timers (whitepaper sections 5 and 6).

The caller owns memory, sockets, locks and the clock. Functions that take a `tunnel*` and are marked (locked) run
under the device's control lock; those marked (worker) run lock-free on any packet thread. `now` is monotonic ns.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from whcore.cookie cimport cookie_jar, cookie_keys
from whcore.noise cimport noise_handshake, noise_suite
from whcore.replay cimport replay_window

cdef enum:
    # Whitepaper 5.4: message types and sizes.
    MESSAGE_INITIATION = 1
    MESSAGE_RESPONSE = 2
    MESSAGE_COOKIE = 3
    MESSAGE_DATA = 4
    INITIATION_LEN = 148
    RESPONSE_LEN = 92
    COOKIE_LEN = 64
    DATA_HEADER_LEN = 16
    TAG_LEN = 16
    DATA_OVERHEAD = 32

cdef extern from *:
    """
    #define WH_REJECT_AFTER_MESSAGES (UINT64_MAX - (UINT64_C(1) << 13))
    """
    const uint64_t REJECT_AFTER_MESSAGES "WH_REJECT_AFTER_MESSAGES"     # whitepaper 6.1: the first counter never used

cdef enum:                      # kinds of traffic
    TRAFFIC_DATA                # a packet of the user's
    TRAFFIC_KEEPALIVE           # an empty data message
    TRAFFIC_HANDSHAKE

cdef enum:                       # a bit mask
    ACTION_NONE = 0
    ACTION_INITIATE = 1         # send a handshake initiation
    ACTION_KEEPALIVE = 2        # send an empty data message, or initiate where there is no session
    ACTION_GIVE_UP = 4          # REKEY_ATTEMPT_TIME passed: drop what is staged
    ACTION_ZERO = 8             # REJECT_AFTER_TIME x 3 passed: wipe every key

cdef struct keypair:
    uint8_t send_key[32]
    uint8_t recv_key[32]
    uint64_t send_counter       # next to use; atomic
    int64_t created_at
    uint32_t local_index        # the peer sends to it
    uint32_t remote_index       # we send to it
    uint32_t peer_slot
    bint initiator
    uint32_t replay_lock        # spin lock over replay
    replay_window replay

cdef struct local_identity:     # what all tunnels of a device share
    const uint8_t* secret       # 32 bytes; NULL: no key set, nothing is sent or accepted
    uint8_t public[32]
    noise_suite suite

cdef struct tunnel:
    keypair* current            # atomic pointers: written under the control lock, read by workers
    keypair* previous
    keypair* next
    uint8_t remote_static[32]
    uint8_t static_static[32]   # DH of the two static keys, computed once
    uint8_t psk[32]
    bint usable                 # static_static is not degenerate, and the peer is not ourselves
    noise_handshake handshake   # ours in flight, when handshake_index is not 0
    uint32_t handshake_index
    uint8_t last_timestamp[12]  # TAI64N of the last accepted initiation
    int64_t last_stamp_ns       # Unix ns of the last initiation of ours, or what all of ours must be later than
    int64_t last_initiation_received_at
    int64_t last_initiation_sent_at     # of any handshake message of ours
    cookie_jar jar
    cookie_keys remote_keys
    # Timers: deadlines, 0 when off; each a single aligned word that workers and the timer thread store.
    int64_t retransmit_at
    int64_t keepalive_at
    int64_t new_handshake_at
    int64_t zero_at
    int64_t persistent_at
    int64_t persistent_ns       # persistent keepalive interval, 0: off
    uint32_t attempts           # initiations resent since the last success
    uint32_t another_keepalive
    uint32_t lastminute_sent    # a rekey was started because a received-on key is about to expire
    int64_t last_handshake_wall_ns

cdef struct retired_keypairs:   # taken out of a tunnel; the caller unindexes and frees them after a grace period
    keypair* items[3]
    int n

# What every identity begins with: no key, and the names of whitepaper 5.4.
cdef void identity_init(local_identity* local) noexcept nogil

# (locked) remote_static: 32 bytes; psk: 32 bytes or NULL. An unusable key gives a tunnel that emits nothing.
cdef void tunnel_init(tunnel* t, const local_identity* local, const uint8_t* remote_static) noexcept nogil
# (locked) After the device's key changed: recompute static_static, forget the handshake.
cdef void tunnel_set_local(tunnel* t, const local_identity* local) noexcept nogil

# (locked) Write a 148-byte initiation that carries sender_index. Its timestamp is later than that of any before, also
# where the clock was ahead then: the peer would refuse it (5.1). WH_OK, WH_E_STATE (no key), WH_E_KEY.
cdef int tunnel_initiate(tunnel* t, const local_identity* local, uint32_t sender_index, uint8_t* out,
                         int64_t now, int64_t wall_ns) noexcept nogil
# (locked) Whether a new initiation may be sent now: REKEY_TIMEOUT since the last handshake message.
cdef bint tunnel_may_initiate(const tunnel* t, int64_t now) noexcept nogil
# (locked) Judge the part of an initiation after its static key was decrypted into *hs, and answer it with a 92-byte
# response and a keypair (responder: `next`). fresh: zeroed, its local_index and peer_slot set by the caller.
# WH_OK, WH_E_AUTH, WH_E_REPLAY, WH_E_LIMIT (flood), WH_E_KEY, WH_E_STATE; fresh is unused on failure.
cdef int tunnel_answer_initiation(tunnel* t, const local_identity* local, noise_handshake* hs, const uint8_t* message,
                                  keypair* fresh, uint8_t* out, retired_keypairs* retired, int64_t now) noexcept nogil
# (locked) Complete our handshake: fresh becomes current. message: 92 bytes whose receiver index is handshake_index.
cdef int tunnel_consume_response(tunnel* t, const local_identity* local, const uint8_t* message, keypair* fresh,
                                 retired_keypairs* retired, int64_t now, int64_t wall_ns) noexcept nogil
# (locked) The first data message under `next` arrived. Returns whether kp was next (and now is current).
cdef bint tunnel_confirm(tunnel* t, keypair* kp, retired_keypairs* retired, int64_t wall_ns) noexcept nogil
# (locked) Detach all keypairs and wipe the handshake.
cdef void tunnel_zero(tunnel* t, retired_keypairs* retired) noexcept nogil

# (worker) The keypair to send with and the first of n nonces for it, or NULL where a handshake is needed.
cdef keypair* tunnel_claim(tunnel* t, uint64_t n, uint64_t* counter, int64_t now) noexcept nogil
# (worker) Whether a data message may still be received under kp.
cdef bint keypair_receivable(const keypair* kp, int64_t now) noexcept nogil
# (worker) Whether having sent / received under kp asks for a rekey (whitepaper 6.2).
cdef bint tunnel_rekey_after_send(const keypair* kp, int64_t now) noexcept nogil
cdef bint tunnel_rekey_after_receive(tunnel* t, const keypair* kp, int64_t now) noexcept nogil

# (worker) Timer bookkeeping. Each returns the earliest deadline it armed, or INT64_MAX.
cdef int64_t tunnel_sent(tunnel* t, int kind, int64_t now) noexcept nogil
cdef int64_t tunnel_received(tunnel* t, int kind, int64_t now) noexcept nogil
cdef int64_t tunnel_initiation_sent(tunnel* t, int64_t now) noexcept nogil
# (locked) Actions that are due; each fires once. next_at: out, the earliest deadline left, INT64_MAX if none.
cdef int tunnel_expire(tunnel* t, int64_t now, int64_t* next_at) noexcept nogil
