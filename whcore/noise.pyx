# cython: auto_pickle=False
"""Noise IK handshakes (Noise Protocol Framework, revision 34), token by token. Contracts are in noise.pxd."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset, strlen

from whcore.aead cimport aead_open, aead_seal
from whcore.blake2s cimport blake2s, blake2s_hash2, kdf
from whcore.errors cimport WH_E_KEY, WH_E_LENGTH, WH_OK, raise_rc
from whcore.keys cimport SecretKey, check_public_key_bytes, x25519
from whcore.sodium cimport crypto_scalarmult_base, randombytes_buf, sodium_memzero

cdef enum:
    KEY_LEN = 32
    HASH_LEN = 32
    TAG_LEN = 16
    SEALED_STATIC_LEN = KEY_LEN + TAG_LEN

# TAI64 label of 1970-01-01 00:00:10 TAI, and how coarse WireGuard makes its nanoseconds (whitepaper 5.4.2).
cdef uint64_t TAI64_UNIX_EPOCH = 0x400000000000000A
cdef uint64_t TAI64N_WHITENING_NS = 1 << 24

cdef uint8_t[32] NO_PSK                 # zeros, as every C global


# The SymmetricState (section 5.2 of the Noise specification).

cdef void mix_hash(noise_handshake* hs, const uint8_t* data, size_t n) noexcept nogil:
    blake2s_hash2(hs.hash, hs.hash, HASH_LEN, data, n)


cdef void mix_key(noise_handshake* hs, const uint8_t* material) noexcept nogil:
    kdf(hs.chaining_key, hs.key, NULL, hs.chaining_key, material, KEY_LEN)


cdef void mix_key_and_hash(noise_handshake* hs, const uint8_t* psk) noexcept nogil:
    cdef uint8_t[32] mixed
    kdf(hs.chaining_key, mixed, hs.key, hs.chaining_key, psk, KEY_LEN)
    mix_hash(hs, mixed, HASH_LEN)
    sodium_memzero(mixed, sizeof(mixed))


# Each key of an IK handshake seals exactly one thing, hence the constant nonce.
cdef void encrypt_and_hash(noise_handshake* hs, const uint8_t* plaintext, size_t n,
                           uint8_t* out) noexcept nogil:
    aead_seal(out, plaintext, n, hs.hash, HASH_LEN, 0, hs.key)
    mix_hash(hs, out, n + TAG_LEN)


cdef int decrypt_and_hash(noise_handshake* hs, const uint8_t* sealed, size_t n, uint8_t* out) noexcept nogil:
    cdef int rc = aead_open(out, sealed, n, hs.hash, HASH_LEN, 0, hs.key)
    if rc == WH_OK:
        mix_hash(hs, sealed, n)
    return rc


# The tokens (section 7.1).

# `e`: with a psk in the handshake, ephemeral keys are mixed into the key as well (section 9.2).
cdef void token_e(noise_handshake* hs, const noise_suite* suite, const uint8_t* ephemeral) noexcept nogil:
    mix_hash(hs, ephemeral, KEY_LEN)
    if suite.psk_position != NOISE_PSK_NONE:
        mix_key(hs, ephemeral)


# `ee`, `es`, `se`, `ss`
cdef int token_dh(noise_handshake* hs, const uint8_t* secret, const uint8_t* public) noexcept nogil:
    cdef uint8_t[32] shared
    cdef int rc = x25519(shared, secret, public)
    if rc == WH_OK:
        mix_key(hs, shared)
    sodium_memzero(shared, sizeof(shared))
    return rc


cdef void token_psk(noise_handshake* hs, const uint8_t* psk) noexcept nogil:
    mix_key_and_hash(hs, psk if psk != NULL else NO_PSK)


cdef void start(noise_handshake* hs, const noise_suite* suite, const uint8_t* responder_public,
                const uint8_t* psk) noexcept nogil:
    memset(hs, 0, sizeof(noise_handshake))
    memcpy(hs.chaining_key, suite.chaining_key, HASH_LEN)
    memcpy(hs.hash, suite.hash, HASH_LEN)
    # <- s (pre-message)
    mix_hash(hs, responder_public, KEY_LEN)
    if suite.psk_position == NOISE_PSK_0:
        # psk
        token_psk(hs, psk)


cdef void noise_suite_init(noise_suite* suite, const char* name, const uint8_t* prologue, size_t n,
                           int psk_position) noexcept nogil:
    cdef size_t name_len = strlen(name)
    if name_len <= HASH_LEN:
        memset(suite.chaining_key, 0, HASH_LEN)
        memcpy(suite.chaining_key, name, name_len)
    else:
        blake2s(suite.chaining_key, HASH_LEN, NULL, 0, <const uint8_t*>name, name_len)
    blake2s_hash2(suite.hash, suite.chaining_key, HASH_LEN, prologue, n)
    suite.psk_position = psk_position


cdef int noise_write_initiation(noise_handshake* hs, const noise_suite* suite, const uint8_t* local_public,
                                const uint8_t* remote_static, const uint8_t* static_static,
                                const uint8_t* ephemeral_secret, const uint8_t* psk,
                                const uint8_t* payload, size_t n, uint8_t* out) noexcept nogil:
    cdef int rc
    if suite.psk_position == NOISE_PSK_0 and psk == NULL:
        return WH_E_KEY
    start(hs, suite, remote_static, psk)
    memcpy(hs.remote_static, remote_static, KEY_LEN)
    memcpy(hs.ephemeral_secret, ephemeral_secret, KEY_LEN)
    # e
    crypto_scalarmult_base(out, ephemeral_secret)
    token_e(hs, suite, out)
    # es
    rc = token_dh(hs, ephemeral_secret, remote_static)
    if rc != WH_OK:
        return rc
    # s
    encrypt_and_hash(hs, local_public, KEY_LEN, out + KEY_LEN)
    # ss
    mix_key(hs, static_static)
    encrypt_and_hash(hs, payload, n, out + KEY_LEN + SEALED_STATIC_LEN)
    return WH_OK


cdef int noise_read_initiation_static(noise_handshake* hs, const noise_suite* suite,
                                      const uint8_t* local_secret, const uint8_t* local_public,
                                      const uint8_t* psk, const uint8_t* message) noexcept nogil:
    cdef int rc = check_public_key_bytes(message)
    if rc != WH_OK:
        return rc
    if suite.psk_position == NOISE_PSK_0 and psk == NULL:
        return WH_E_KEY
    start(hs, suite, local_public, psk)
    # e
    memcpy(hs.remote_ephemeral, message, KEY_LEN)
    token_e(hs, suite, hs.remote_ephemeral)
    # es
    rc = token_dh(hs, local_secret, hs.remote_ephemeral)
    if rc != WH_OK:
        return rc
    # s
    rc = decrypt_and_hash(hs, message + KEY_LEN, SEALED_STATIC_LEN, hs.remote_static)
    if rc != WH_OK:
        return rc
    return check_public_key_bytes(hs.remote_static)


cdef int noise_read_initiation_payload(noise_handshake* hs, const uint8_t* static_static,
                                       const uint8_t* sealed, size_t n, uint8_t* payload) noexcept nogil:
    # ss
    mix_key(hs, static_static)
    return decrypt_and_hash(hs, sealed, n, payload)


cdef int noise_write_response(noise_handshake* hs, const noise_suite* suite,
                              const uint8_t* ephemeral_secret, const uint8_t* psk,
                              const uint8_t* payload, size_t n, uint8_t* out) noexcept nogil:
    cdef int rc
    # e
    crypto_scalarmult_base(out, ephemeral_secret)
    token_e(hs, suite, out)
    # ee
    rc = token_dh(hs, ephemeral_secret, hs.remote_ephemeral)
    if rc != WH_OK:
        return rc
    # se
    rc = token_dh(hs, ephemeral_secret, hs.remote_static)
    if rc != WH_OK:
        return rc
    if suite.psk_position == NOISE_PSK_2:
        # psk
        token_psk(hs, psk)
    encrypt_and_hash(hs, payload, n, out + KEY_LEN)
    return WH_OK


cdef int noise_read_response(noise_handshake* hs, const noise_suite* suite, const uint8_t* local_secret,
                             const uint8_t* psk, const uint8_t* message, size_t n,
                             uint8_t* payload) noexcept nogil:
    cdef noise_handshake tried
    cdef int rc
    if n < NOISE_RESPONSE_OVERHEAD:
        return WH_E_LENGTH
    memcpy(&tried, hs, sizeof(tried))
    rc = read_response_into(&tried, suite, local_secret, psk, message, n, payload)
    if rc == WH_OK:
        memcpy(hs, &tried, sizeof(tried))
    noise_wipe(&tried)
    return rc


cdef int read_response_into(noise_handshake* hs, const noise_suite* suite, const uint8_t* local_secret,
                            const uint8_t* psk, const uint8_t* message, size_t n,
                            uint8_t* payload) noexcept nogil:
    cdef int rc = check_public_key_bytes(message)
    if rc != WH_OK:
        return rc
    # e
    memcpy(hs.remote_ephemeral, message, KEY_LEN)
    token_e(hs, suite, hs.remote_ephemeral)
    # ee
    rc = token_dh(hs, hs.ephemeral_secret, hs.remote_ephemeral)
    if rc != WH_OK:
        return rc
    # se
    rc = token_dh(hs, local_secret, hs.remote_ephemeral)
    if rc != WH_OK:
        return rc
    if suite.psk_position == NOISE_PSK_2:
        # psk
        token_psk(hs, psk)
    return decrypt_and_hash(hs, message + KEY_LEN, n - KEY_LEN, payload)


cdef void noise_split(noise_handshake* hs, uint8_t* first, uint8_t* second) noexcept nogil:
    kdf(first, second, NULL, hs.chaining_key, NULL, 0)
    noise_wipe(hs)


cdef void noise_wipe(noise_handshake* hs) noexcept nogil:
    sodium_memzero(hs, sizeof(noise_handshake))


cdef void tai64n_exact(uint8_t* out, long long unix_ns) noexcept nogil:
    cdef uint64_t clamped = <uint64_t>unix_ns if unix_ns > 0 else 0
    cdef uint64_t seconds = TAI64_UNIX_EPOCH + clamped // 1000000000
    cdef uint64_t nanoseconds = clamped % 1000000000
    cdef int i
    for i in range(8):
        out[i] = <uint8_t>(seconds >> (56 - 8 * i))
    for i in range(4):
        out[8 + i] = <uint8_t>(nanoseconds >> (24 - 8 * i))


cdef void tai64n(uint8_t* out, long long unix_ns) noexcept nogil:
    tai64n_exact(out, unix_ns)
    # Whitening rounds the nanosecond field alone down to a multiple of 2^24.
    memset(out + 9, 0, 3)


# Python classes: one handshake by hand, for tests and for those who embed the core.

@cython.final
cdef class Suite:
    cdef noise_suite suite

    def __cinit__(self, bytes protocol_name not None, bytes prologue not None,
                  int psk_position=NOISE_PSK_NONE):
        if psk_position not in (NOISE_PSK_NONE, NOISE_PSK_0, NOISE_PSK_2):
            raise ValueError(f"psk position {psk_position} is not -1, 0 or 2")
        noise_suite_init(&self.suite, PyBytes_AS_STRING(protocol_name), prologue, len(prologue), psk_position)


@cython.final
cdef class Transport:
    cdef uint8_t[32] sending_key
    cdef uint8_t[32] receiving_key
    cdef uint64_t sent
    cdef uint64_t received

    def seal(self, bytes plaintext not None):
        out = PyBytes_FromStringAndSize(NULL, len(plaintext) + TAG_LEN)
        aead_seal(<uint8_t*>PyBytes_AS_STRING(out), plaintext, len(plaintext), NULL, 0, self.sent,
                  self.sending_key)
        self.sent += 1
        return out

    def open(self, bytes sealed not None):
        if len(sealed) < TAG_LEN:
            raise_rc(WH_E_LENGTH, "transport message")
        out = PyBytes_FromStringAndSize(NULL, len(sealed) - TAG_LEN)
        cdef int rc = aead_open(<uint8_t*>PyBytes_AS_STRING(out), sealed, len(sealed), NULL, 0, self.received,
                                self.receiving_key)
        if rc != WH_OK:
            raise_rc(rc, "transport message")
        self.received += 1
        return out

    def __dealloc__(self):
        sodium_memzero(self.sending_key, KEY_LEN)
        sodium_memzero(self.receiving_key, KEY_LEN)


cdef class _Handshake:
    cdef Suite suite
    cdef noise_handshake hs
    cdef SecretKey secret_key
    cdef SecretKey ephemeral
    cdef uint8_t[32] psk
    cdef readonly bytes handshake_hash

    def __cinit__(self):
        memset(&self.hs, 0, sizeof(self.hs))
        memset(self.psk, 0, sizeof(self.psk))

    def __dealloc__(self):
        noise_wipe(&self.hs)
        sodium_memzero(self.psk, sizeof(self.psk))

    cdef int configure(self, Suite suite, SecretKey secret_key, bytes psk, SecretKey ephemeral) except -1:
        if psk is not None:
            if len(psk) != KEY_LEN:
                raise ValueError(f"a preshared key has 32 bytes, not {len(psk)}")
            memcpy(self.psk, PyBytes_AS_STRING(psk), KEY_LEN)
        elif suite.suite.psk_position == NOISE_PSK_0:
            raise ValueError("IKpsk0 needs a preshared key")
        self.suite = suite
        self.secret_key = secret_key
        self.ephemeral = ephemeral
        return 0

    cdef int static_static(self, uint8_t* out, const uint8_t* remote_static) except -1:
        self.secret_key.check_open()
        cdef int rc = x25519(out, self.secret_key.key, remote_static)
        if rc != WH_OK:
            raise_rc(rc, "static key")
        return 0

    cdef int choose_ephemeral(self, uint8_t* out) except -1:
        if self.ephemeral is None:
            randombytes_buf(out, KEY_LEN)
        else:
            self.ephemeral.check_open()
            memcpy(out, self.ephemeral.key, KEY_LEN)
        return 0

    cdef Transport split(self, bint initiator):
        cdef Transport transport = Transport()
        self.handshake_hash = PyBytes_FromStringAndSize(<char*>self.hs.hash, HASH_LEN)
        if initiator:
            noise_split(&self.hs, transport.sending_key, transport.receiving_key)
        else:
            noise_split(&self.hs, transport.receiving_key, transport.sending_key)
        return transport


@cython.final
cdef class Initiator(_Handshake):
    cdef bytes remote_static

    def __cinit__(self, Suite suite not None, SecretKey secret_key not None, bytes remote_static not None, *,
                  bytes psk=None, SecretKey ephemeral=None):
        if len(remote_static) != KEY_LEN or check_public_key_bytes(remote_static) != WH_OK:
            raise_rc(WH_E_KEY, "remote static key")
        self.configure(suite, secret_key, psk, ephemeral)
        self.remote_static = remote_static

    def write(self, bytes payload not None):
        cdef uint8_t[32] ephemeral
        cdef uint8_t[32] static_static
        self.static_static(static_static, self.remote_static)
        self.choose_ephemeral(ephemeral)
        out = PyBytes_FromStringAndSize(NULL, len(payload) + NOISE_INITIATION_OVERHEAD)
        cdef int rc = noise_write_initiation(
            &self.hs, &self.suite.suite, self.secret_key.public_key, self.remote_static, static_static,
            ephemeral, self.psk, payload, len(payload), <uint8_t*>PyBytes_AS_STRING(out))
        sodium_memzero(ephemeral, KEY_LEN)
        sodium_memzero(static_static, KEY_LEN)
        if rc != WH_OK:
            raise_rc(rc, "initiation")
        return out

    def read(self, bytes message not None):
        self.secret_key.check_open()
        payload = PyBytes_FromStringAndSize(NULL, max(0, len(message) - NOISE_RESPONSE_OVERHEAD))
        cdef int rc = noise_read_response(&self.hs, &self.suite.suite, self.secret_key.key, self.psk, message,
                                          len(message), <uint8_t*>PyBytes_AS_STRING(payload))
        if rc != WH_OK:
            raise_rc(rc, "response")
        return payload, self.split(True)


@cython.final
cdef class Responder(_Handshake):
    cdef readonly bytes remote_static

    def __cinit__(self, Suite suite not None, SecretKey secret_key not None, *, bytes psk=None,
                  SecretKey ephemeral=None):
        self.configure(suite, secret_key, psk, ephemeral)

    def read(self, bytes message not None):
        cdef uint8_t[32] static_static
        cdef size_t n = len(message)
        if n < NOISE_INITIATION_OVERHEAD:
            raise_rc(WH_E_LENGTH, "initiation")
        self.secret_key.check_open()
        cdef const uint8_t* data = message
        cdef int rc = noise_read_initiation_static(&self.hs, &self.suite.suite, self.secret_key.key,
                                                   self.secret_key.public_key, self.psk, data)
        if rc != WH_OK:
            raise_rc(rc, "initiation")
        self.static_static(static_static, self.hs.remote_static)
        payload = PyBytes_FromStringAndSize(NULL, n - NOISE_INITIATION_OVERHEAD)
        rc = noise_read_initiation_payload(&self.hs, static_static, data + KEY_LEN + SEALED_STATIC_LEN,
                                           n - KEY_LEN - SEALED_STATIC_LEN,
                                           <uint8_t*>PyBytes_AS_STRING(payload))
        sodium_memzero(static_static, KEY_LEN)
        if rc != WH_OK:
            raise_rc(rc, "initiation")
        self.remote_static = PyBytes_FromStringAndSize(<char*>self.hs.remote_static, KEY_LEN)
        return payload

    def write(self, bytes payload not None):
        cdef uint8_t[32] ephemeral
        if self.remote_static is None:
            raise ValueError("no initiation was read")
        self.choose_ephemeral(ephemeral)
        out = PyBytes_FromStringAndSize(NULL, len(payload) + NOISE_RESPONSE_OVERHEAD)
        cdef int rc = noise_write_response(&self.hs, &self.suite.suite, ephemeral, self.psk, payload,
                                           len(payload), <uint8_t*>PyBytes_AS_STRING(out))
        sodium_memzero(ephemeral, KEY_LEN)
        if rc != WH_OK:
            raise_rc(rc, "response")
        return out, self.split(False)
