# cython: auto_pickle=False
"""Control sessions (docs/protocol.md sections 1 and 2): seals and opens datagrams, sans-IO.

The datagrams are made and judged here. What is kept between them is in handshakes.pyx and sessions.pyx, their
layouts are in control_wire.pxd.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from whcore.aead cimport aead_open, aead_seal
from whcore.control_wire cimport (
    COOKIE_LEN, COOKIE_NONCE_AT, COOKIE_RECEIVER_AT, COOKIE_SEALED_AT, DATA_COUNTER_AT, DATA_OVERHEAD,
    DATA_PADDED_MAX, DATA_PLAINTEXT_MAX, DATA_PLAINTEXT_MIN, DATA_RECEIVER_AT, DATA_SEALED_AT, DATAGRAM_MAX, HEADER_LEN,
    INIT_NOISE_AT, INIT_OVERHEAD, INIT_PAYLOAD_AT, INIT_PLAINTEXT_MAX, INIT_SENDER_AT, LENGTH_LEN, MACS_LEN,
    RESP_NOISE_AT, RESP_OVERHEAD, RESP_RECEIVER_AT, RESP_SENDER_AT, TIMESTAMP_LEN, TYPE_COOKIE, TYPE_DATA,
    PROBE_DATAGRAM_MAX, TYPE_INIT, TYPE_RESP, header_type, load32, load64, pad, padded_len, store32, store64, unpad_untrusted,
    write_header,
)
from whcore.cookie cimport (
    COOKIE_SOURCE_LEN, SCOPE_NETWORK, cookie_check_mac1, cookie_check_mac2, cookie_checker, cookie_checker_init,
    cookie_consume, cookie_jar, cookie_keys, cookie_keys_init, cookie_make, cookie_stamp, proved_limiter,
    proved_limiter_allow, proved_limiter_free, proved_limiter_init, rate_limiter, rate_limiter_allow,
    rate_limiter_free, rate_limiter_init,
)
from whcore.errors cimport (
    WH_E_COUNT, WH_E_INDEX, WH_E_KEY, WH_E_LENGTH, WH_E_MEMORY, WH_E_REPLAY, WH_E_STATE, WH_E_TYPE,
    WH_E_WORKBIT, WH_OK, raise_rc, rc_name,
)
from whcore.handshakes cimport Initiation, InitiationTable, PendingRequest, PendingTable, is_stale
from whcore.keys cimport SecretKey, check_public_key_bytes, workbit_of, x25519
from whcore.noise cimport (
    NOISE_PSK_0, NOISE_PSK_NONE, noise_handshake, noise_read_initiation_payload, noise_read_initiation_static,
    noise_read_response, noise_split, noise_suite, noise_suite_init, noise_wipe, noise_write_initiation,
    noise_write_response, tai64n_exact,
)
from whcore.replay cimport replay_accept
from whcore.sessions cimport Keypair, ReceiverIndices, Session, SessionTable, TimestampTable
from whcore.sieve cimport ControlSieve
from whcore.sodium cimport randombytes_buf, sodium_free, sodium_malloc, sodium_memzero

DROPPED = 0
REQUEST = 1
RESPONSE = 2
DATA = 3
COOKIE_REPLY = 4
COOKIE_TAKEN = 5

cdef enum:
    KEY_LEN = 32

cdef int64_t NS_PER_S = 1000000000

# docs/protocol.md section 2.
cdef const char* NAME_IK = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
cdef const char* NAME_IKPSK0 = b"Noise_IKpsk0_25519_ChaChaPoly_BLAKE2s"
cdef bytes PROLOGUE = b"wirehub 2\0"
cdef const char* MAC1_LABEL = b"wh2 mac1"
cdef const char* COOKIE_LABEL = b"wh2 cookie"
cdef uint8_t[KEY_LEN] NO_SECRET                 # zeros, as every C global
cdef int64_t REKEY_AFTER_NS = 1800 * NS_PER_S
cdef uint64_t REKEY_AFTER_MESSAGES = <uint64_t>1 << 60
cdef uint64_t REJECT_AFTER_MESSAGES = 0xFFFFFFFFFFFFDFFF    # 2^64 - 2^13 - 1, as WireGuard (whitepaper 6.1)
cdef enum:
    UNPROVED_INIT_PER_S = 20            # of a network, without a valid mac2
    UNPROVED_INIT_BURST = 40
    HOST_INIT_PER_S = 10                # with one
    HOST_INIT_BURST = 20
    NETWORK_INIT_PER_S = 60
    NETWORK_INIT_BURST = 120
    LOAD_INITS_PER_S = 200              # at 400 us each, 8% of a core

# Tuning. Simultaneous handshakes cross within one round trip.
cdef int64_t GLARE_NS = NS_PER_S
cdef enum:
    LIMITED_NETWORKS = 4096
    TIMESTAMPS_A_SESSION = 4

# One code more than errors.pxd has: nobody else can meet this case.
cdef int DROP_GLARE = -WH_E_COUNT
cdef tuple REASONS = tuple([rc_name(-i).decode("ascii") for i in range(WH_E_COUNT)]) + ("glare",)
cdef tuple DROPS = tuple([(DROPPED, reason) for reason in REASONS])


@cython.final
cdef class ControlSessions:
    cdef SecretKey secret_key
    cdef bytes namespace
    cdef int workbit
    cdef frozenset exempt
    cdef noise_suite suite
    cdef uint8_t* psk               # the network secret, in sodium_malloc memory; NULL without
    cdef readonly ControlSieve sieve
    cdef cookie_checker* checker    # the sieve's
    cdef rate_limiter unproved
    cdef proved_limiter proved
    cdef int64_t load_second        # INITs with a valid mac1 in this second
    cdef int64_t load_count
    cdef int64_t loaded_until       # the last second under load
    cdef SessionTable sessions
    cdef TimestampTable timestamps
    cdef InitiationTable initiations
    cdef PendingTable pending
    cdef readonly object last_timestamp_ns
    cdef uint64_t[WH_E_COUNT + 1] drops
    cdef bint closed

    def __cinit__(self, SecretKey secret_key not None, bytes namespace not None, *, bytes network_secret=None,
                  int workbit=0, size_t max_sessions=4096, last_timestamp_ns=0):
        cdef cookie_keys keys
        self.psk = NULL
        self.load_second = self.loaded_until = -1
        memset(&self.unproved, 0, sizeof(self.unproved))
        memset(&self.proved, 0, sizeof(self.proved))
        memset(self.drops, 0, sizeof(self.drops))
        secret_key.check_open()
        if max_sessions < 1:
            raise ValueError("max_sessions is at least 1")
        self.secret_key = secret_key
        self.namespace = namespace
        self.workbit = workbit
        self.exempt = frozenset()
        self.set_network_secret(network_secret)
        self.cookie_keys_of(&keys, secret_key.public_key)
        self.sieve = ControlSieve()
        self.checker = &self.sieve.s.checker
        cookie_checker_init(self.checker, &keys)
        if (rate_limiter_init(&self.unproved, LIMITED_NETWORKS, UNPROVED_INIT_PER_S, UNPROVED_INIT_BURST) != WH_OK
                or proved_limiter_init(&self.proved, LIMITED_NETWORKS, HOST_INIT_PER_S, HOST_INIT_BURST,
                                       NETWORK_INIT_PER_S, NETWORK_INIT_BURST) != WH_OK):
            raise_rc(WH_E_MEMORY, "limiter of handshakes")
        cdef ReceiverIndices indices = ReceiverIndices(self.sieve)
        self.sessions = SessionTable(max_sessions, indices)
        self.timestamps = TimestampTable(TIMESTAMPS_A_SESSION * max_sessions)
        self.initiations = InitiationTable(indices)
        self.pending = PendingTable()
        self.last_timestamp_ns = last_timestamp_ns

    def __dealloc__(self):
        self.free_memory()

    # Our requests.

    def initiate(self, bytes peer not None, bytes payload not None, *, size_t pad_to, int64_t now_ns,
                 wall_ns):
        cdef Initiation initiation
        self.require_open()
        self.require_peer(peer)
        cdef size_t n = initiation_plaintext_len(len(payload), pad_to)
        initiation = self.initiations.start(peer, self.sessions.indices.fresh(), now_ns)
        self.last_timestamp_ns = max(wall_ns, self.last_timestamp_ns + 1)
        datagram = PyBytes_FromStringAndSize(NULL, INIT_OVERHEAD + n)
        cdef int rc = self.write_initiation(initiation, payload, n, <uint8_t*>PyBytes_AS_STRING(datagram))
        if rc != WH_OK:
            self.initiations.forget(initiation)
            raise_rc(rc, "control handshake")
        initiation.datagram = datagram
        return self.stamp(initiation, now_ns)

    def in_flight(self, bytes peer not None):
        return peer in self.initiations.by_peer

    cdef int write_initiation(self, Initiation initiation, bytes payload, size_t n, uint8_t* out):
        cdef uint8_t[KEY_LEN] ephemeral
        cdef uint8_t[KEY_LEN] static_static
        cdef uint8_t[TIMESTAMP_LEN + INIT_PLAINTEXT_MAX] plaintext
        cdef int rc = x25519(static_static, self.secret_key.key, initiation.peer)
        if rc != WH_OK:
            return rc
        write_header(out, TYPE_INIT)
        store32(out + INIT_SENDER_AT, initiation.local_index)
        tai64n_exact(plaintext, self.last_timestamp_ns)
        pad(plaintext + TIMESTAMP_LEN, n, payload, len(payload))
        randombytes_buf(ephemeral, KEY_LEN)
        rc = noise_write_initiation(
            initiation.handshake, &self.suite, self.secret_key.public_key, initiation.peer, static_static,
            ephemeral, self.psk, plaintext, TIMESTAMP_LEN + n, out + INIT_NOISE_AT)
        sodium_memzero(ephemeral, KEY_LEN)
        sodium_memzero(static_static, KEY_LEN)
        return rc

    cdef bytes stamp(self, Initiation initiation, int64_t now_ns):
        """The INIT with mac1, and with mac2 where its responder gave us a cookie."""
        cdef cookie_keys keys
        cdef bytes datagram = initiation.datagram
        stamped = PyBytes_FromStringAndSize(PyBytes_AS_STRING(datagram), len(datagram))
        self.cookie_keys_of(&keys, initiation.peer)
        cookie_stamp(&initiation.jar, &keys, <uint8_t*>PyBytes_AS_STRING(stamped), len(stamped), now_ns)
        return stamped

    # Our answers to the requests of others.

    def respond(self, pending, bytes payload not None, *, int64_t now_ns):
        cdef PendingRequest request = self.pending.by_handle.get(pending)
        if request is None or is_stale(request, now_ns):
            return None
        if LENGTH_LEN + <size_t>len(payload) > request.plaintext_max:
            return None
        cdef size_t n = min(padded_len(len(payload), 0), request.plaintext_max)
        datagram = PyBytes_FromStringAndSize(NULL, RESP_OVERHEAD + n)
        cdef uint32_t local_index = self.sessions.indices.fresh()
        cdef int rc = self.write_response(request, local_index, payload, n,
                                          <uint8_t*>PyBytes_AS_STRING(datagram), now_ns)
        if rc == WH_OK:
            self.install(request.handshake, request.peer, local_index, request.remote_index, False, now_ns)
        self.pending.forget(pending)
        return datagram if rc == WH_OK else None

    def response_capacity(self, pending):
        cdef PendingRequest request = self.pending.by_handle.get(pending)
        return 0 if request is None else request.plaintext_max - LENGTH_LEN

    cdef int write_response(self, PendingRequest request, uint32_t local_index, bytes payload, size_t n,
                            uint8_t* out, int64_t now_ns):
        cdef uint8_t[KEY_LEN] ephemeral
        cdef uint8_t[DATAGRAM_MAX] plaintext
        cdef cookie_keys keys
        cdef cookie_jar jar
        write_header(out, TYPE_RESP)
        store32(out + RESP_SENDER_AT, local_index)
        store32(out + RESP_RECEIVER_AT, request.remote_index)
        pad(plaintext, n, payload, len(payload))
        randombytes_buf(ephemeral, KEY_LEN)
        cdef int rc = noise_write_response(request.handshake, &self.suite, ephemeral, self.psk, plaintext, n,
                                           out + RESP_NOISE_AT)
        sodium_memzero(ephemeral, KEY_LEN)
        # Nobody asks for a mac2 on a RESP: its jar stays empty.
        memset(&jar, 0, sizeof(jar))
        self.cookie_keys_of(&keys, request.peer)
        cookie_stamp(&jar, &keys, out, RESP_OVERHEAD + n, now_ns)
        return rc

    cdef void install(self, noise_handshake* handshake, bytes peer, uint32_t local_index,
                      uint32_t remote_index, bint initiator, int64_t now_ns):
        cdef Keypair keypair = self.sessions.new_keypair(peer, local_index, remote_index, initiator, now_ns)
        memcpy(keypair.handshake_hash, handshake.hash, KEY_LEN)
        if initiator:
            noise_split(handshake, keypair.keys.sending, keypair.keys.receiving)
            self.sessions.install_initiated(keypair, now_ns)
        else:
            noise_split(handshake, keypair.keys.receiving, keypair.keys.sending)
            self.sessions.install_responded(keypair, now_ns)

    # Messages in a session.

    def has_session(self, bytes peer not None):
        cdef Session session = self.sessions.by_peer.get(peer)
        return session is not None and session.current is not None

    def handshake_hashes(self, bytes peer not None):
        cdef Session session = self.sessions.by_peer.get(peer)
        cdef Keypair keypair
        hashes = []
        if session is not None:
            for keypair in (session.current, session.previous):
                if keypair is not None:
                    hashes.append(PyBytes_FromStringAndSize(<char*>keypair.handshake_hash, KEY_LEN))
        return tuple(hashes)

    def needs_rekey(self, bytes peer not None, int64_t now_ns):
        cdef Session session = self.sessions.by_peer.get(peer)
        if session is None or session.current is None or not session.current.initiator:
            return False
        return (now_ns - session.current.created_at >= REKEY_AFTER_NS
                or session.current.sent >= REKEY_AFTER_MESSAGES)

    def seal(self, bytes peer not None, bytes payload not None, *, int64_t now_ns,
             size_t pad_to=DATA_PLAINTEXT_MIN):
        cdef Session session = self.sessions.by_peer.get(peer)
        cdef Keypair keypair
        cdef uint8_t* out
        require_room("DATA", len(payload), 0, DATA_PLAINTEXT_MAX)
        require_room("padded DATA", 0, pad_to, DATA_PADDED_MAX)
        cdef size_t n = max(padded_len(len(payload), DATA_PLAINTEXT_MIN), pad_to)
        if session is None or session.current is None:
            return None
        keypair = session.current
        if now_ns >= keypair.expires_at or keypair.sent >= REJECT_AFTER_MESSAGES:
            return None
        datagram = PyBytes_FromStringAndSize(NULL, DATA_OVERHEAD + n)
        out = <uint8_t*>PyBytes_AS_STRING(datagram)
        write_header(out, TYPE_DATA)
        store32(out + DATA_RECEIVER_AT, keypair.remote_index)
        store64(out + DATA_COUNTER_AT, keypair.sent)
        pad(out + DATA_SEALED_AT, n, payload, len(payload))
        aead_seal(out + DATA_SEALED_AT, out + DATA_SEALED_AT, n, NULL, 0, keypair.sent, keypair.keys.sending)
        keypair.sent += 1
        self.sessions.touch(session, now_ns)
        return datagram

    # What others send.

    def open(self, bytes datagram not None, bytes source not None, *, int64_t now_ns, wall_ns):
        cdef const uint8_t* data = datagram
        cdef size_t n = len(datagram)
        if len(source) != COOKIE_SOURCE_LEN:
            raise ValueError(f"a source has {COOKIE_SOURCE_LEN} bytes, not {len(source)}")
        if self.closed:
            return self.dropped(WH_E_STATE)
        self.secret_key.check_open()
        cdef int kind = header_type(data, n)
        if n < HEADER_LEN or n > <size_t>(PROBE_DATAGRAM_MAX if kind == TYPE_DATA else DATAGRAM_MAX):
            return self.dropped(WH_E_LENGTH)
        if kind == TYPE_DATA:
            return self.open_data_untrusted(data, n, now_ns)
        if kind == TYPE_INIT:
            return self.open_initiation_untrusted(data, n, source, now_ns)
        if kind == TYPE_RESP:
            return self.open_response_untrusted(data, n, now_ns)
        if kind == TYPE_COOKIE:
            return self.open_cookie_untrusted(data, n, now_ns)
        return self.dropped(WH_E_TYPE)

    cdef tuple open_initiation_untrusted(self, const uint8_t* data, size_t n, const uint8_t* source,
                                         int64_t now_ns):
        cdef noise_handshake handshake
        cdef uint8_t[DATAGRAM_MAX] plaintext
        cdef tuple result
        cdef int rc
        if n < INIT_OVERHEAD + LENGTH_LEN:
            return self.dropped(WH_E_LENGTH)
        rc = cookie_check_mac1(self.checker, data, n)
        if rc != WH_OK:
            return self.dropped(rc)
        cdef bint loaded = self.count_load(now_ns)
        if cookie_check_mac2(self.checker, data, n, source, now_ns) == WH_OK:
            rc = proved_limiter_allow(&self.proved, source, source, now_ns)
            if rc != WH_OK:
                return self.dropped(rc)
        # Whoever forges addresses of a network can empty its share, and must keep nobody out by that.
        elif loaded or rate_limiter_allow(&self.unproved, source, SCOPE_NETWORK, now_ns) != WH_OK:
            return COOKIE_REPLY, self.cookie_reply(data, n, source, now_ns)
        rc = self.read_initiation(&handshake, data, n, now_ns, plaintext)
        if rc == WH_OK:
            result = self.accept_initiation(&handshake, data, n, plaintext, now_ns)
        else:
            result = self.dropped(rc)
        noise_wipe(&handshake)
        return result

    cdef bint count_load(self, int64_t now_ns):
        """Under load: more than LOAD_INITS_PER_S INITs in this second or the one before."""
        cdef int64_t second = now_ns // NS_PER_S
        if second != self.load_second:
            self.load_second = second
            self.load_count = 0
        self.load_count += 1
        if self.load_count > LOAD_INITS_PER_S:
            self.loaded_until = second + 1
        return second <= self.loaded_until

    cdef bytes cookie_reply(self, const uint8_t* data, size_t n, const uint8_t* source, int64_t now_ns):
        cdef uint8_t[COOKIE_LEN] out
        write_header(out, TYPE_COOKIE)
        store32(out + COOKIE_RECEIVER_AT, load32(data + INIT_SENDER_AT))
        cookie_make(self.checker, data, n, source, now_ns, out + COOKIE_NONCE_AT, out + COOKIE_SEALED_AT)
        return PyBytes_FromStringAndSize(<char*>out, COOKIE_LEN)

    cdef int read_initiation(self, noise_handshake* handshake, const uint8_t* data, size_t n, int64_t now_ns,
                             uint8_t* plaintext):
        cdef uint8_t[KEY_LEN] static_static
        cdef int rc = noise_read_initiation_static(
            handshake, &self.suite, self.secret_key.key, self.secret_key.public_key, self.psk,
            data + INIT_NOISE_AT)
        if rc == WH_OK:
            rc = self.judge_initiator(handshake.remote_static, now_ns)
        if rc == WH_OK:
            rc = x25519(static_static, self.secret_key.key, handshake.remote_static)
        if rc == WH_OK:
            rc = noise_read_initiation_payload(handshake, static_static, data + INIT_PAYLOAD_AT,
                                               n - INIT_PAYLOAD_AT - MACS_LEN, plaintext)
        sodium_memzero(static_static, KEY_LEN)
        return rc

    cdef int judge_initiator(self, const uint8_t* claimed, int64_t now_ns):
        """What the key alone decides. Its owner has proved nothing yet: this may only refuse."""
        cdef bytes peer = PyBytes_FromStringAndSize(<const char*>claimed, KEY_LEN)
        cdef bytes own = self.secret_key.public_key
        if peer == own:
            return WH_E_KEY
        if (peer not in self.exempt
                and workbit_of(claimed, self.namespace, len(self.namespace)) < self.workbit):
            return WH_E_WORKBIT
        cdef Initiation ours = self.initiations.by_peer.get(peer)
        # On glare the lower key's handshake wins. But a peer that our INITs do not reach must not be kept out
        # by them.
        if ours is not None and now_ns - ours.first_at < GLARE_NS and own < peer:
            return DROP_GLARE
        return WH_OK

    cdef tuple accept_initiation(self, const noise_handshake* handshake, const uint8_t* data, size_t n,
                                 const uint8_t* plaintext, int64_t now_ns):
        cdef bytes peer = PyBytes_FromStringAndSize(<const char*>handshake.remote_static, KEY_LEN)
        cdef bytes timestamp = PyBytes_FromStringAndSize(<const char*>plaintext, TIMESTAMP_LEN)
        cdef bytes payload = unpad_untrusted(plaintext + TIMESTAMP_LEN, n - INIT_OVERHEAD)
        if payload is None:
            return self.dropped(WH_E_LENGTH)
        if not self.timestamps.accept(peer, timestamp):
            return self.dropped(WH_E_REPLAY)
        self.initiations.forget_peer(peer)
        handle = self.pending.add(handshake, peer, load32(data + INIT_SENDER_AT), n - RESP_OVERHEAD, now_ns)
        return REQUEST, peer, handle, payload

    cdef tuple open_response_untrusted(self, const uint8_t* data, size_t n, int64_t now_ns):
        cdef uint8_t[DATAGRAM_MAX] plaintext
        cdef int rc
        if n < RESP_OVERHEAD + LENGTH_LEN:
            return self.dropped(WH_E_LENGTH)
        cdef Initiation initiation = self.initiations.find(load32(data + RESP_RECEIVER_AT), now_ns)
        if initiation is None:
            return self.dropped(WH_E_INDEX)
        rc = cookie_check_mac1(self.checker, data, n)
        if rc == WH_OK:
            rc = noise_read_response(initiation.handshake, &self.suite, self.secret_key.key, self.psk,
                                     data + RESP_NOISE_AT, n - RESP_NOISE_AT - MACS_LEN, plaintext)
        if rc != WH_OK:
            return self.dropped(rc)
        cdef bytes payload = unpad_untrusted(plaintext, n - RESP_OVERHEAD)
        if payload is None:
            self.initiations.forget(initiation)
            return self.dropped(WH_E_LENGTH)
        self.install(initiation.handshake, initiation.peer, initiation.local_index,
                     load32(data + RESP_SENDER_AT), True, now_ns)
        self.initiations.forget(initiation)
        return RESPONSE, initiation.peer, payload

    cdef tuple open_cookie_untrusted(self, const uint8_t* data, size_t n, int64_t now_ns):
        cdef cookie_keys keys
        if n != COOKIE_LEN:
            return self.dropped(WH_E_LENGTH)
        cdef Initiation initiation = self.initiations.find(load32(data + COOKIE_RECEIVER_AT), now_ns)
        if initiation is None:
            return self.dropped(WH_E_INDEX)
        self.cookie_keys_of(&keys, initiation.peer)
        cdef int rc = cookie_consume(&initiation.jar, &keys, data + COOKIE_NONCE_AT, data + COOKIE_SEALED_AT,
                                     now_ns)
        if rc != WH_OK:
            return self.dropped(rc)
        stamped = self.stamp(initiation, now_ns)
        # The same INIT has the same mac1: without this a replayed COOKIE would make us send it once more.
        initiation.jar.sent_mac1 = False
        return COOKIE_TAKEN, initiation.peer, stamped

    cdef tuple open_data_untrusted(self, const uint8_t* data, size_t n, int64_t now_ns):
        cdef uint8_t[PROBE_DATAGRAM_MAX] plaintext
        cdef uint64_t counter
        cdef int rc
        if n < DATA_OVERHEAD + DATA_PLAINTEXT_MIN:
            return self.dropped(WH_E_LENGTH)
        entry = self.sessions.indices.get(load32(data + DATA_RECEIVER_AT))
        if not isinstance(entry, Keypair):
            return self.dropped(WH_E_INDEX)
        cdef Keypair keypair = <Keypair>entry
        if now_ns >= keypair.expires_at:
            return self.dropped(WH_E_INDEX)
        counter = load64(data + DATA_COUNTER_AT)
        rc = aead_open(plaintext, data + DATA_SEALED_AT, n - DATA_SEALED_AT, NULL, 0, counter,
                       keypair.keys.receiving)
        if rc != WH_OK:
            return self.dropped(rc)
        if not replay_accept(&keypair.received, counter, REJECT_AFTER_MESSAGES):
            return self.dropped(WH_E_REPLAY)
        cdef bytes payload = unpad_untrusted(plaintext, n - DATA_OVERHEAD)
        if payload is None:
            return self.dropped(WH_E_LENGTH)
        cdef bint confirmed = self.sessions.note_opened(keypair, now_ns)
        return DATA, keypair.peer, payload, confirmed

    cdef tuple dropped(self, int rc):
        self.drops[-rc] += 1
        return DROPS[-rc]

    # The rest of the life of what is kept.

    def set_exempt_keys(self, keys):
        self.exempt = frozenset(keys)
        self.sessions.set_exempt(self.exempt)
        self.timestamps.set_exempt(self.exempt)

    def drop(self, bytes peer not None):
        self.sessions.remove(peer)
        self.initiations.forget_peer(peer)
        self.pending.forget_peer(peer)

    def expire(self, int64_t now_ns):
        self.sessions.expire(now_ns)
        self.initiations.expire(now_ns)
        self.pending.expire(now_ns)

    def counters(self):
        counts = {
            "sessions": len(self.sessions.by_peer),
            "in_flight": len(self.initiations.by_peer),
            "pending": len(self.pending.by_handle),
        }
        for code, reason in enumerate(REASONS):
            if code:
                counts[f"dropped_{reason}"] = self.drops[code]
        return counts

    def close(self):
        cdef cookie_keys gone
        if self.closed:
            return
        self.closed = True
        memset(&gone, 0, sizeof(gone))
        cookie_checker_init(self.checker, &gone)    # a data plane may still read it
        self.initiations.close()
        self.pending.close()
        self.sessions.close()
        self.free_memory()

    cdef void free_memory(self) noexcept:
        sodium_free(self.psk)
        self.psk = NULL
        rate_limiter_free(&self.unproved)
        proved_limiter_free(&self.proved)

    cdef int set_network_secret(self, bytes secret) except -1:
        if secret is not None:
            if len(secret) != KEY_LEN:
                raise ValueError(f"a network secret has {KEY_LEN} bytes, not {len(secret)}")
            self.psk = <uint8_t*>sodium_malloc(KEY_LEN)
            if self.psk == NULL:
                raise_rc(WH_E_MEMORY, "network secret")
            memcpy(self.psk, PyBytes_AS_STRING(secret), KEY_LEN)
        cdef bytes prologue = PROLOGUE + self.namespace
        noise_suite_init(&self.suite, NAME_IK if secret is None else NAME_IKPSK0, prologue, len(prologue),
                         NOISE_PSK_NONE if secret is None else NOISE_PSK_0)
        return 0

    cdef void cookie_keys_of(self, cookie_keys* keys, const uint8_t* public_key) noexcept:
        cookie_keys_init(keys, MAC1_LABEL, COOKIE_LABEL, public_key,
                         self.psk if self.psk != NULL else NO_SECRET, KEY_LEN)

    cdef int require_open(self) except -1:
        if self.closed:
            raise_rc(WH_E_STATE, "control sessions are closed")
        self.secret_key.check_open()
        return 0

    cdef int require_peer(self, bytes peer) except -1:
        cdef bytes own = self.secret_key.public_key
        if len(peer) != KEY_LEN or check_public_key_bytes(peer) != WH_OK or peer == own:
            raise_rc(WH_E_KEY, "control peer")
        return 0


cdef size_t initiation_plaintext_len(size_t payload_len, size_t pad_to) except 0:
    """pad_to where the payload fits in it, else what it needs."""
    require_room("INIT", payload_len, pad_to, INIT_PLAINTEXT_MAX)
    if pad_to >= LENGTH_LEN + payload_len:
        return pad_to
    return min(padded_len(payload_len, 0), <size_t>INIT_PLAINTEXT_MAX)


cdef int require_room(str what, size_t payload_len, size_t pad_to, size_t most) except -1:
    cdef size_t wanted = max(LENGTH_LEN + payload_len, pad_to)
    if wanted > most:
        raise ValueError(f"{what} holds {most} bytes of plaintext, not {wanted}")
    return 0
