"""One WireGuard peer without I/O: see tunnel.pxd for the contract of each function."""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from whcore.cookie cimport cookie_keys_init, cookie_stamp
from whcore.errors cimport WH_E_LIMIT, WH_E_REPLAY, WH_E_STATE, WH_OK
from whcore.kernel cimport (
    wh_add_u64, wh_load_i64, wh_load_ptr, wh_load_u64, wh_put_le32, wh_store_i64, wh_store_ptr, wh_le32,
)
from whcore.keys cimport x25519
from whcore.noise cimport (
    NOISE_PSK_2, noise_handshake, noise_read_initiation_payload, noise_read_response, noise_split, noise_suite_init,
    noise_wipe, noise_write_initiation, noise_write_response, tai64n,
)
from whcore.replay cimport replay_reset
from whcore.sodium cimport randombytes_buf, randombytes_uniform, sodium_memzero

# Whitepaper 5.4
cdef const char* CONSTRUCTION = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
cdef const char* IDENTIFIER = "WireGuard v1 zx2c4 Jason@zx2c4.com"
cdef enum:
    IDENTIFIER_LEN = 34

# Whitepaper 6.1, in ns. They are spec values: nothing configures them.
cdef int64_t SECOND = 1_000_000_000
cdef int64_t REKEY_AFTER_TIME = 120 * SECOND
cdef int64_t REJECT_AFTER_TIME = 180 * SECOND
cdef int64_t REKEY_TIMEOUT = 5 * SECOND
cdef int64_t KEEPALIVE_TIMEOUT = 10 * SECOND
cdef uint64_t REKEY_AFTER_MESSAGES = (<uint64_t>1) << 60
cdef uint32_t MAX_ATTEMPTS = 90 // 5          # REKEY_ATTEMPT_TIME / REKEY_TIMEOUT
cdef int64_t TIMESTAMP_STEP_NS = 1 << 24      # what a timestamp is rounded down to
cdef uint32_t JITTER_MS = 334                 # 6.1: up to a third of a second against synchronised retries
cdef int64_t INITIATION_FLOOD_NS = SECOND // 50   # at most 50 initiations a second are looked at per peer


cdef inline int64_t jitter() noexcept nogil:
    return <int64_t>randombytes_uniform(JITTER_MS) * 1_000_000


cdef inline void retire(retired_keypairs* retired, keypair* kp) noexcept nogil:
    if kp != NULL:
        retired.items[retired.n] = kp
        retired.n += 1


# --- set-up ---------------------------------------------------------------------------------------------------------

cdef void identity_init(local_identity* local) noexcept nogil:
    memset(local, 0, sizeof(local_identity))
    noise_suite_init(&local.suite, CONSTRUCTION, <const uint8_t*>IDENTIFIER, IDENTIFIER_LEN, NOISE_PSK_2)


cdef void tunnel_init(tunnel* t, const local_identity* local, const uint8_t* remote_static) noexcept nogil:
    memset(t, 0, sizeof(tunnel))
    memcpy(t.remote_static, remote_static, 32)
    cookie_keys_init(&t.remote_keys, "mac1----", "cookie--", remote_static, NULL, 0)
    tunnel_set_local(t, local)


cdef void tunnel_set_local(tunnel* t, const local_identity* local) noexcept nogil:
    noise_wipe(&t.handshake)
    t.last_initiation_sent_at = 0       # the peer knows nothing of the new key yet: no reason to wait
    t.usable = (
        local.secret != NULL
        and x25519(t.static_static, local.secret, t.remote_static) == WH_OK
        and memcmp(t.remote_static, local.public, 32) != 0
    )


# --- handshake (5.4.2, 5.4.3) ---------------------------------------------------------------------------------------

cdef bint tunnel_may_initiate(const tunnel* t, int64_t now) noexcept nogil:
    return t.last_initiation_sent_at == 0 or now - t.last_initiation_sent_at >= REKEY_TIMEOUT


cdef int tunnel_initiate(tunnel* t, const local_identity* local, uint32_t sender_index, uint8_t* out,
                         int64_t now, int64_t wall_ns) noexcept nogil:
    cdef uint8_t ephemeral[32]
    cdef uint8_t timestamp[12]
    cdef int rc
    if not t.usable:
        return WH_E_STATE
    memset(out, 0, INITIATION_LEN)
    out[0] = MESSAGE_INITIATION
    wh_put_le32(out + 4, sender_index)
    t.last_stamp_ns = max(wall_ns, t.last_stamp_ns + TIMESTAMP_STEP_NS)
    tai64n(timestamp, t.last_stamp_ns)
    randombytes_buf(ephemeral, 32)
    rc = noise_write_initiation(&t.handshake, &local.suite, local.public, t.remote_static, t.static_static,
                                ephemeral, NULL, timestamp, 12, out + 8)
    sodium_memzero(ephemeral, 32)
    if rc != WH_OK:
        noise_wipe(&t.handshake)
        t.handshake_index = 0
        return rc
    t.handshake_index = sender_index
    cookie_stamp(&t.jar, &t.remote_keys, out, INITIATION_LEN, now)
    return WH_OK


cdef int tunnel_answer_initiation(tunnel* t, const local_identity* local, noise_handshake* hs, const uint8_t* message,
                                  keypair* fresh, uint8_t* out, retired_keypairs* retired, int64_t now) noexcept nogil:
    cdef uint8_t timestamp[12]
    cdef uint8_t ephemeral[32]
    cdef int rc
    if not t.usable:
        return WH_E_STATE
    rc = noise_read_initiation_payload(hs, t.static_static, message + 88, 28, timestamp)
    if rc != WH_OK:
        return rc
    if memcmp(timestamp, t.last_timestamp, 12) <= 0:
        return WH_E_REPLAY
    if t.last_initiation_received_at and now - t.last_initiation_received_at < INITIATION_FLOOD_NS:
        return WH_E_LIMIT
    memset(out, 0, RESPONSE_LEN)
    out[0] = MESSAGE_RESPONSE
    wh_put_le32(out + 4, fresh.local_index)
    memcpy(out + 8, message + 4, 4)
    randombytes_buf(ephemeral, 32)
    rc = noise_write_response(hs, &local.suite, ephemeral, t.psk, NULL, 0, out + 12)
    sodium_memzero(ephemeral, 32)
    if rc != WH_OK:
        return rc
    memcpy(t.last_timestamp, timestamp, 12)
    t.last_initiation_received_at = now
    fresh.remote_index = wh_le32(message + 4)
    fresh.initiator = False
    fresh.created_at = now
    replay_reset(&fresh.replay)
    noise_split(hs, fresh.recv_key, fresh.send_key)
    # Until the initiator proves by a data message that it has the keys, only `next` changes; what was `previous`
    # goes, so that no more than three keypairs exist.
    retire(retired, t.next)
    retire(retired, t.previous)
    wh_store_ptr(&t.previous, NULL)
    wh_store_ptr(&t.next, fresh)
    wh_store_i64(&t.zero_at, now + 3 * REJECT_AFTER_TIME)
    t.last_initiation_sent_at = now
    cookie_stamp(&t.jar, &t.remote_keys, out, RESPONSE_LEN, now)
    return WH_OK


cdef int tunnel_consume_response(tunnel* t, const local_identity* local, const uint8_t* message, keypair* fresh,
                                 retired_keypairs* retired, int64_t now, int64_t wall_ns) noexcept nogil:
    cdef uint8_t nothing[1]
    cdef int rc
    if not t.usable or t.handshake_index == 0:
        return WH_E_STATE
    rc = noise_read_response(&t.handshake, &local.suite, local.secret, t.psk, message + 12, 48, nothing)
    if rc != WH_OK:
        return rc
    fresh.local_index = t.handshake_index
    fresh.remote_index = wh_le32(message + 4)
    fresh.initiator = True
    fresh.created_at = now
    replay_reset(&fresh.replay)
    noise_split(&t.handshake, fresh.send_key, fresh.recv_key)
    t.handshake_index = 0
    t.jar.sent_mac1 = False
    if t.next != NULL:
        retire(retired, t.previous)
        retire(retired, t.current)
        wh_store_ptr(&t.previous, t.next)
        wh_store_ptr(&t.next, NULL)
    else:
        retire(retired, t.previous)
        wh_store_ptr(&t.previous, t.current)
    wh_store_ptr(&t.current, fresh)
    wh_store_i64(&t.zero_at, now + 3 * REJECT_AFTER_TIME)
    handshake_done(t, wall_ns)
    return WH_OK


cdef bint tunnel_confirm(tunnel* t, keypair* kp, retired_keypairs* retired, int64_t wall_ns) noexcept nogil:
    if t.next != kp:
        return False
    retire(retired, t.previous)
    wh_store_ptr(&t.previous, t.current)
    wh_store_ptr(&t.current, kp)
    wh_store_ptr(&t.next, NULL)
    handshake_done(t, wall_ns)
    return True


cdef inline void handshake_done(tunnel* t, int64_t wall_ns) noexcept nogil:
    wh_store_i64(&t.retransmit_at, 0)
    t.attempts = 0
    t.lastminute_sent = 0
    wh_store_i64(&t.last_handshake_wall_ns, wall_ns)


cdef void tunnel_zero(tunnel* t, retired_keypairs* retired) noexcept nogil:
    retire(retired, t.previous)
    retire(retired, t.current)
    retire(retired, t.next)
    wh_store_ptr(&t.previous, NULL)
    wh_store_ptr(&t.current, NULL)
    wh_store_ptr(&t.next, NULL)
    noise_wipe(&t.handshake)
    wh_store_i64(&t.zero_at, 0)


# --- keypairs (6.2) -------------------------------------------------------------------------------------------------

cdef keypair* tunnel_claim(tunnel* t, uint64_t n, uint64_t* counter, int64_t now) noexcept nogil:
    cdef keypair* kp = <keypair*>wh_load_ptr(&t.current)
    if kp == NULL or now - kp.created_at >= REJECT_AFTER_TIME:
        return NULL
    if wh_load_u64(&kp.send_counter) + n > REJECT_AFTER_MESSAGES:
        return NULL
    counter[0] = wh_add_u64(&kp.send_counter, n)
    return kp if counter[0] + n <= REJECT_AFTER_MESSAGES else NULL


cdef bint keypair_receivable(const keypair* kp, int64_t now) noexcept nogil:
    return now - kp.created_at < REJECT_AFTER_TIME


cdef bint tunnel_rekey_after_send(const keypair* kp, int64_t now) noexcept nogil:
    return kp.send_counter >= REKEY_AFTER_MESSAGES or (kp.initiator and now - kp.created_at >= REKEY_AFTER_TIME)


cdef bint tunnel_rekey_after_receive(tunnel* t, const keypair* kp, int64_t now) noexcept nogil:
    """6.2: an initiator that only receives starts over before its key stops being accepted, once a key."""
    if t.lastminute_sent or not kp.initiator:
        return False
    if now - kp.created_at < REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT:
        return False
    t.lastminute_sent = 1
    return True


# --- timers (6.1, 6.4, 6.5) -----------------------------------------------------------------------------------------

cdef inline int64_t arm(int64_t* deadline, int64_t at) noexcept nogil:
    """Arm a timer that is off; one that runs is left alone."""
    if wh_load_i64(deadline) != 0:
        return INT64_MAX
    wh_store_i64(deadline, at)
    return at


cdef inline int64_t traversed(tunnel* t, int64_t now) noexcept nogil:
    """6.5's persistent keepalive runs from the last authenticated packet in either direction."""
    cdef int64_t interval = wh_load_i64(&t.persistent_ns)
    if interval == 0:
        return INT64_MAX
    wh_store_i64(&t.persistent_at, now + interval)
    return now + interval


cdef int64_t tunnel_sent(tunnel* t, int kind, int64_t now) noexcept nogil:
    cdef int64_t first = traversed(t, now), at
    if wh_load_i64(&t.keepalive_at):
        wh_store_i64(&t.keepalive_at, 0)
    if kind == TRAFFIC_DATA and wh_load_i64(&t.new_handshake_at) == 0:
        at = arm(&t.new_handshake_at, now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter())
        first = min(first, at)
    return first


cdef int64_t tunnel_received(tunnel* t, int kind, int64_t now) noexcept nogil:
    cdef int64_t first = traversed(t, now), at
    if wh_load_i64(&t.new_handshake_at):
        wh_store_i64(&t.new_handshake_at, 0)
    if kind == TRAFFIC_DATA:
        at = arm(&t.keepalive_at, now + KEEPALIVE_TIMEOUT)
        if at == INT64_MAX:
            t.another_keepalive = 1
        first = min(first, at)
    return first


cdef int64_t tunnel_initiation_sent(tunnel* t, int64_t now) noexcept nogil:
    cdef int64_t at = now + REKEY_TIMEOUT + jitter()
    t.last_initiation_sent_at = now
    wh_store_i64(&t.retransmit_at, at)
    return min(at, tunnel_sent(t, TRAFFIC_HANDSHAKE, now))


cdef int tunnel_expire(tunnel* t, int64_t now, int64_t* next_at) noexcept nogil:
    cdef int actions = ACTION_NONE
    if due(&t.retransmit_at, now):
        if t.attempts >= MAX_ATTEMPTS:
            actions |= ACTION_GIVE_UP
            t.attempts = 0
            wh_store_i64(&t.keepalive_at, 0)
            arm(&t.zero_at, now + 3 * REJECT_AFTER_TIME)
        else:
            t.attempts += 1
            actions |= ACTION_INITIATE
    if due(&t.keepalive_at, now):
        actions |= ACTION_KEEPALIVE
        if t.another_keepalive:
            t.another_keepalive = 0
            wh_store_i64(&t.keepalive_at, now + KEEPALIVE_TIMEOUT)
    if due(&t.new_handshake_at, now):
        actions |= ACTION_INITIATE
    if due(&t.persistent_at, now) and wh_load_i64(&t.persistent_ns):
        actions |= ACTION_KEEPALIVE
    if due(&t.zero_at, now):
        actions |= ACTION_ZERO
    next_at[0] = earliest(t)
    return actions


cdef inline bint due(int64_t* deadline, int64_t now) noexcept nogil:
    cdef int64_t at = wh_load_i64(deadline)
    if at == 0 or at > now:
        return False
    wh_store_i64(deadline, 0)
    return True


cdef inline int64_t earliest(tunnel* t) noexcept nogil:
    cdef int64_t first = INT64_MAX, at
    cdef int64_t* timers[5]
    cdef int i
    timers[0] = &t.retransmit_at
    timers[1] = &t.keepalive_at
    timers[2] = &t.new_handshake_at
    timers[3] = &t.zero_at
    timers[4] = &t.persistent_at
    for i in range(5):
        at = wh_load_i64(timers[i])
        if at:
            first = min(first, at)
    return first
