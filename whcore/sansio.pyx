"""One WireGuard peer as a Python object: see sansio.pyi. The struct and every function are the data plane's own."""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from whcore.aead cimport aead_open, aead_seal
from whcore.cookie cimport cookie_checker, cookie_checker_init, cookie_check_mac1, cookie_keys, cookie_keys_init
from whcore.errors cimport WH_E_INDEX, WH_E_LENGTH, WH_E_MAC, WH_E_REPLAY, WH_E_STATE, WH_OK, raise_rc
from whcore.kernel cimport wh_le32, wh_le64, wh_put_le32, wh_put_le64
from whcore.keys cimport SecretKey
from whcore.noise cimport noise_handshake, noise_read_initiation_static, noise_wipe
from whcore.replay cimport replay_accept
from whcore.sodium cimport randombytes_buf, sodium_free, sodium_malloc, sodium_memcmp, sodium_memzero
from whcore.tunnel cimport (
    DATA_HEADER_LEN, DATA_OVERHEAD, INITIATION_LEN, MESSAGE_DATA, MESSAGE_INITIATION, MESSAGE_RESPONSE,
    REJECT_AFTER_MESSAGES, RESPONSE_LEN, TRAFFIC_DATA, TRAFFIC_HANDSHAKE, TRAFFIC_KEEPALIVE, identity_init, keypair, keypair_receivable,
    local_identity, retired_keypairs,
    tunnel, tunnel_answer_initiation, tunnel_claim, tunnel_confirm, tunnel_consume_response, tunnel_expire,
    tunnel_init, tunnel_initiate, tunnel_initiation_sent, tunnel_may_initiate, tunnel_received,
    tunnel_rekey_after_receive, tunnel_rekey_after_send, tunnel_sent, tunnel_zero,
)

from whcore.keys import check_public_key

INITIATE = 1
KEEPALIVE = 2
GIVE_UP = 4
ZERO = 8

cdef enum:
    KEYPAIRS = 5        # three in use, one being made, one being replaced

cdef struct state:
    tunnel tunnel
    local_identity local
    cookie_checker checker
    keypair keypairs[KEYPAIRS]
    bint taken[KEYPAIRS]


cdef class Tunnel:
    """One WireGuard peer without I/O, threads or clock; its state is one block of locked memory."""

    cdef state* s
    cdef SecretKey secret
    cdef bint rekey

    def __cinit__(self, SecretKey secret_key, bytes peer, *, bytes psk=None):
        cdef cookie_keys keys
        cdef const uint8_t* key = peer
        cdef const uint8_t* public = secret_key.public_key
        check_public_key(peer)
        if psk is not None and len(psk) != 32:
            raise ValueError("a preshared key has 32 bytes")
        secret_key.check_open()
        self.s = <state*>sodium_malloc(sizeof(state))
        if self.s == NULL:
            raise MemoryError
        memset(self.s, 0, sizeof(state))
        self.secret = secret_key
        identity_init(&self.s.local)
        self.s.local.secret = secret_key.key
        memcpy(self.s.local.public, public, 32)
        cookie_keys_init(&keys, "mac1----", "cookie--", public, NULL, 0)
        cookie_checker_init(&self.s.checker, &keys)
        tunnel_init(&self.s.tunnel, &self.s.local, key)
        if psk is not None:
            memcpy(self.s.tunnel.psk, <const uint8_t*>psk, 32)

    def __dealloc__(self):
        sodium_free(self.s)

    cdef keypair* fresh(self) except NULL:
        cdef int i
        for i in range(KEYPAIRS):
            if not self.s.taken[i]:
                self.s.taken[i] = True
                memset(&self.s.keypairs[i], 0, sizeof(keypair))
                randombytes_buf(&self.s.keypairs[i].local_index, 4)
                return &self.s.keypairs[i]
        raise MemoryError

    cdef void release(self, keypair* kp) noexcept:
        sodium_memzero(kp, sizeof(keypair))
        self.s.taken[kp - self.s.keypairs] = False

    cdef void release_all(self, retired_keypairs* old) noexcept:
        cdef int i
        for i in range(old.n):
            self.release(old.items[i])

    def initiate(self, *, int64_t now_ns, int64_t wall_ns):
        cdef uint8_t out[INITIATION_LEN]
        cdef uint32_t index = 0
        cdef int rc
        while index == 0:
            randombytes_buf(&index, 4)
        rc = tunnel_initiate(&self.s.tunnel, &self.s.local, index, out, now_ns, wall_ns)
        if rc != WH_OK:
            raise_rc(rc, "handshake initiation")
        tunnel_initiation_sent(&self.s.tunnel, now_ns)
        return out[:INITIATION_LEN]

    def may_initiate(self, int64_t now_ns):
        return bool(tunnel_may_initiate(&self.s.tunnel, now_ns))

    cdef int check_handshake(self, bytes message, int kind, size_t length) except -1:
        cdef const uint8_t* raw = message
        if len(message) != length or wh_le32(raw) != kind:
            raise_rc(WH_E_LENGTH, "handshake message")
        if cookie_check_mac1(&self.s.checker, raw, length) != WH_OK:
            raise_rc(WH_E_MAC, "handshake message")
        return 0

    def answer(self, bytes initiation, *, int64_t now_ns):
        cdef noise_handshake hs
        cdef retired_keypairs old
        cdef uint8_t out[RESPONSE_LEN]
        cdef const uint8_t* raw = initiation
        cdef keypair* kp
        cdef int rc
        self.check_handshake(initiation, MESSAGE_INITIATION, INITIATION_LEN)
        old.n = 0
        kp = self.fresh()
        rc = noise_read_initiation_static(&hs, &self.s.local.suite, self.s.local.secret, self.s.local.public, NULL, raw + 8)
        if rc == WH_OK and sodium_memcmp(hs.remote_static, self.s.tunnel.remote_static, 32) != 0:
            rc = WH_E_STATE
        if rc == WH_OK:
            rc = tunnel_answer_initiation(&self.s.tunnel, &self.s.local, &hs, raw, kp, out, &old, now_ns)
        noise_wipe(&hs)
        if rc != WH_OK:
            self.release(kp)
            raise_rc(rc, "handshake initiation")
        self.release_all(&old)
        tunnel_received(&self.s.tunnel, TRAFFIC_HANDSHAKE, now_ns)
        tunnel_sent(&self.s.tunnel, TRAFFIC_HANDSHAKE, now_ns)
        return out[:RESPONSE_LEN]

    def complete(self, bytes response, *, int64_t now_ns, int64_t wall_ns):
        cdef retired_keypairs old
        cdef const uint8_t* raw = response
        cdef keypair* kp
        cdef int rc
        self.check_handshake(response, MESSAGE_RESPONSE, RESPONSE_LEN)
        if self.s.tunnel.handshake_index == 0 or wh_le32(raw + 8) != self.s.tunnel.handshake_index:
            raise_rc(WH_E_INDEX, "handshake response")
        old.n = 0
        kp = self.fresh()
        rc = tunnel_consume_response(&self.s.tunnel, &self.s.local, raw, kp, &old, now_ns, wall_ns)
        if rc != WH_OK:
            self.release(kp)
            raise_rc(rc, "handshake response")
        self.release_all(&old)
        tunnel_received(&self.s.tunnel, TRAFFIC_HANDSHAKE, now_ns)

    def seal(self, bytes packet, *, int64_t now_ns):
        cdef uint64_t counter = 0
        cdef keypair* kp = tunnel_claim(&self.s.tunnel, 1, &counter, now_ns)
        if kp == NULL:
            return None
        padded = packet + bytes(15 - (len(packet) + 15) % 16)
        datagram = bytearray(len(padded) + DATA_OVERHEAD)
        cdef uint8_t* out = datagram
        out[0] = MESSAGE_DATA
        wh_put_le32(out + 4, kp.remote_index)
        wh_put_le64(out + 8, counter)
        aead_seal(out + DATA_HEADER_LEN, <const uint8_t*>padded, len(padded), NULL, 0, counter, kp.send_key)
        tunnel_sent(&self.s.tunnel, TRAFFIC_DATA if packet else TRAFFIC_KEEPALIVE, now_ns)
        self.rekey = self.rekey or tunnel_rekey_after_send(kp, now_ns)
        return bytes(datagram)

    cdef keypair* find(self, uint32_t index) noexcept:
        cdef tunnel* t = &self.s.tunnel
        if t.current != NULL and t.current.local_index == index:
            return t.current
        if t.next != NULL and t.next.local_index == index:
            return t.next
        if t.previous != NULL and t.previous.local_index == index:
            return t.previous
        return NULL

    def open(self, bytes datagram, *, int64_t now_ns, int64_t wall_ns):
        cdef retired_keypairs old
        cdef const uint8_t* raw = datagram
        cdef size_t n = len(datagram)
        cdef keypair* kp
        cdef int rc
        if n < DATA_OVERHEAD or wh_le32(raw) != MESSAGE_DATA:
            raise_rc(WH_E_LENGTH, "data message")
        kp = self.find(wh_le32(raw + 4))
        if kp == NULL or not keypair_receivable(kp, now_ns):
            raise_rc(WH_E_INDEX, "data message")
        plain = bytearray(n - DATA_OVERHEAD)
        cdef uint8_t* out = plain
        rc = aead_open(out, raw + DATA_HEADER_LEN, n - DATA_HEADER_LEN, NULL, 0, wh_le64(raw + 8), kp.recv_key)
        if rc == WH_OK and not replay_accept(&kp.replay, wh_le64(raw + 8), REJECT_AFTER_MESSAGES):
            rc = WH_E_REPLAY
        if rc != WH_OK:
            raise_rc(rc, "data message")
        old.n = 0
        if tunnel_confirm(&self.s.tunnel, kp, &old, wall_ns):
            self.release_all(&old)
        tunnel_received(&self.s.tunnel, TRAFFIC_DATA if plain else TRAFFIC_KEEPALIVE, now_ns)
        self.rekey = self.rekey or tunnel_rekey_after_receive(&self.s.tunnel, kp, now_ns)
        return bytes(plain)

    def expire(self, int64_t now_ns):
        cdef retired_keypairs old
        cdef int64_t next_at = INT64_MAX
        cdef int actions = tunnel_expire(&self.s.tunnel, now_ns, &next_at)
        if actions & ZERO:
            old.n = 0
            tunnel_zero(&self.s.tunnel, &old)
            self.s.tunnel.handshake_index = 0
            self.release_all(&old)
        return actions, (None if next_at == INT64_MAX else next_at)

    def set_keepalive(self, int seconds, *, int64_t now_ns):
        self.s.tunnel.persistent_ns = seconds * <int64_t>1_000_000_000
        self.s.tunnel.persistent_at = now_ns if seconds else 0

    def wants_rekey(self):
        wanted, self.rekey = bool(self.rekey), False
        return wanted

    def skip_messages(self, uint64_t n):
        if self.s.tunnel.current != NULL:
            self.s.tunnel.current.send_counter += n

    @property
    def session_count(self):
        cdef tunnel* t = &self.s.tunnel
        return (t.current != NULL) + (t.next != NULL) + (t.previous != NULL)
