# cython: auto_pickle=False
"""mac1, mac2, cookie replies and the handshake rate limiters. The contracts are in cookie.pxd."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset, strlen

from whcore.aead cimport xaead_open, xaead_seal
from whcore.blake2s cimport blake2s, blake2s_final, blake2s_hash2, blake2s_init, blake2s_state, blake2s_update
from whcore.errors cimport WH_E_LENGTH, WH_E_LIMIT, WH_E_MAC, WH_E_MEMORY, WH_E_STATE, WH_OK, raise_rc
from whcore.kernel cimport wh_put_le32, wh_spin_lock, wh_spin_unlock
from whcore.sodium cimport crypto_verify_16, randombytes_buf, sodium_memzero

cdef enum:
    KEY_LEN = 32
    ADDRESS_LEN = 16
    MACS_LEN = 2 * COOKIE_MAC_LEN

cdef int64_t NS_PER_S = 1000000000
# Whitepaper 5.4.4 and 5.4.7: cookies, and the secret that they are made with, live two minutes.
cdef int64_t COOKIE_LIFE_NS = 120 * NS_PER_S


cdef void cookie_keys_init(cookie_keys* keys, const char* label1, const char* label2, const uint8_t* public,
                           const uint8_t* extra, size_t extra_len) noexcept nogil:
    cdef blake2s_state state
    blake2s_init(&state, KEY_LEN, NULL, 0)
    blake2s_update(&state, <const uint8_t*>label1, strlen(label1))
    blake2s_update(&state, public, KEY_LEN)
    if extra_len:
        blake2s_update(&state, extra, extra_len)
    blake2s_final(&state, keys.mac1_key)
    blake2s_hash2(keys.cookie_key, <const uint8_t*>label2, strlen(label2), public, KEY_LEN)


# The initiator's side.

cdef void cookie_stamp(cookie_jar* jar, const cookie_keys* keys, uint8_t* message, size_t n,
                       int64_t now_ns) noexcept nogil:
    cdef uint8_t* mac1 = message + n - MACS_LEN
    cdef uint8_t* mac2 = message + n - COOKIE_MAC_LEN
    blake2s(mac1, COOKIE_MAC_LEN, keys.mac1_key, KEY_LEN, message, n - MACS_LEN)
    memcpy(jar.last_mac1, mac1, COOKIE_MAC_LEN)
    jar.sent_mac1 = True
    if cookie_is_fresh(jar, now_ns):
        blake2s(mac2, COOKIE_MAC_LEN, jar.cookie, COOKIE_MAC_LEN, message, n - COOKIE_MAC_LEN)
    else:
        memset(mac2, 0, COOKIE_MAC_LEN)


cdef bint cookie_is_fresh(const cookie_jar* jar, int64_t now_ns) noexcept nogil:
    return jar.cookie_at != 0 and now_ns - jar.cookie_at < COOKIE_LIFE_NS


cdef int cookie_consume(cookie_jar* jar, const cookie_keys* keys, const uint8_t* nonce, const uint8_t* sealed,
                        int64_t now_ns) noexcept nogil:
    cdef uint8_t[COOKIE_MAC_LEN] cookie
    cdef int rc
    if not jar.sent_mac1:
        return WH_E_STATE
    rc = xaead_open(cookie, sealed, COOKIE_SEALED_LEN, jar.last_mac1, COOKIE_MAC_LEN, nonce, keys.cookie_key)
    if rc != WH_OK:
        return rc
    memcpy(jar.cookie, cookie, COOKIE_MAC_LEN)
    # Zero means that there is no cookie, also on a clock that starts there.
    jar.cookie_at = now_ns if now_ns != 0 else 1
    # One message is worth one cookie: a replayed reply finds nothing to answer.
    jar.sent_mac1 = False
    return WH_OK


# The responder's side.

cdef void cookie_checker_init(cookie_checker* checker, const cookie_keys* keys) noexcept nogil:
    wh_spin_lock(&checker.lock)
    memcpy(&checker.keys, keys, sizeof(cookie_keys))
    randombytes_buf(checker.secret, KEY_LEN)
    checker.secret_at = 0
    wh_spin_unlock(&checker.lock)


cdef int cookie_check_mac1(cookie_checker* checker, const uint8_t* message, size_t n) noexcept nogil:
    cdef uint8_t[KEY_LEN] key
    cdef uint8_t[COOKIE_MAC_LEN] expected
    if n < MACS_LEN:
        return WH_E_LENGTH
    wh_spin_lock(&checker.lock)
    memcpy(key, checker.keys.mac1_key, KEY_LEN)
    wh_spin_unlock(&checker.lock)
    blake2s(expected, COOKIE_MAC_LEN, key, KEY_LEN, message, n - MACS_LEN)
    return WH_OK if crypto_verify_16(expected, message + n - MACS_LEN) == 0 else WH_E_MAC


cdef int cookie_check_mac2(cookie_checker* checker, const uint8_t* message, size_t n, const uint8_t* source,
                           int64_t now_ns) noexcept nogil:
    cdef uint8_t[COOKIE_MAC_LEN] cookie
    cdef uint8_t[COOKIE_MAC_LEN] expected
    if n < MACS_LEN:
        return WH_E_LENGTH
    cookie_of(checker, source, now_ns, cookie)
    blake2s(expected, COOKIE_MAC_LEN, cookie, COOKIE_MAC_LEN, message, n - COOKIE_MAC_LEN)
    return WH_OK if crypto_verify_16(expected, message + n - COOKIE_MAC_LEN) == 0 else WH_E_MAC


cdef void cookie_make(cookie_checker* checker, const uint8_t* message, size_t n, const uint8_t* source,
                      int64_t now_ns, uint8_t* nonce, uint8_t* sealed) noexcept nogil:
    cdef uint8_t[COOKIE_MAC_LEN] cookie
    cdef uint8_t[KEY_LEN] key
    cookie_of(checker, source, now_ns, cookie)
    randombytes_buf(nonce, COOKIE_NONCE_LEN)
    wh_spin_lock(&checker.lock)
    memcpy(key, checker.keys.cookie_key, KEY_LEN)
    wh_spin_unlock(&checker.lock)
    xaead_seal(sealed, cookie, COOKIE_MAC_LEN, message + n - MACS_LEN, COOKIE_MAC_LEN, nonce, key)


# What a source's cookie is now; a secret that is too old is renewed, which ends all cookies made with it.
cdef void cookie_of(cookie_checker* checker, const uint8_t* source, int64_t now_ns,
                    uint8_t* cookie) noexcept nogil:
    cdef uint8_t[KEY_LEN] secret
    wh_spin_lock(&checker.lock)
    if now_ns - checker.secret_at >= COOKIE_LIFE_NS:
        randombytes_buf(checker.secret, KEY_LEN)
        checker.secret_at = now_ns
    memcpy(secret, checker.secret, KEY_LEN)
    wh_spin_unlock(&checker.lock)
    blake2s(cookie, COOKIE_MAC_LEN, secret, KEY_LEN, source, COOKIE_SOURCE_LEN)


cdef void cookie_source(uint8_t* source, const uint8_t* remote, uint32_t channel) noexcept nogil:
    cdef uint8_t[COOKIE_SOURCE_LEN + 4] named
    memcpy(named, remote, COOKIE_SOURCE_LEN)
    if channel:
        wh_put_le32(named + COOKIE_SOURCE_LEN, channel)
        blake2s(source, COOKIE_SOURCE_LEN, NULL, 0, named, sizeof(named))
    else:
        memcpy(source, named, COOKIE_SOURCE_LEN)


# The rate limiter: a table of sets of WAYS token buckets. A set is chosen by a keyed hash, so that nobody
# outside can aim at the bucket of another address.

cdef enum:
    WAYS = 8

cdef struct token_bucket:
    uint8_t[ADDRESS_LEN] address
    bint used
    int64_t credit_ns           # a token is worth 1 s / tokens_per_s
    int64_t refilled_at


cdef int rate_limiter_init(rate_limiter* limiter, uint32_t capacity, uint64_t tokens_per_s,
                           uint64_t burst) noexcept nogil:
    limiter.capacity = WAYS
    while limiter.capacity < capacity and limiter.capacity < (<uint32_t>1 << 31):
        limiter.capacity <<= 1
    limiter.tokens_per_s = tokens_per_s
    limiter.burst = burst
    randombytes_buf(limiter.hash_key, sizeof(limiter.hash_key))
    limiter.table = calloc(limiter.capacity, sizeof(token_bucket))
    return WH_OK if limiter.table != NULL else WH_E_MEMORY


cdef void rate_limiter_free(rate_limiter* limiter) noexcept nogil:
    free(limiter.table)
    limiter.table = NULL


cdef int rate_limiter_allow(rate_limiter* limiter, const uint8_t* address, limiter_scope scope,
                            int64_t now_ns) noexcept nogil:
    cdef uint8_t[ADDRESS_LEN] counted
    cdef token_bucket* bucket
    cdef int64_t token_ns = NS_PER_S // <int64_t>limiter.tokens_per_s
    memcpy(counted, address, ADDRESS_LEN)
    keep_scope(counted, scope)
    bucket = bucket_of(limiter, counted, now_ns)
    bucket.credit_ns = credit_now(limiter, bucket, now_ns)
    bucket.refilled_at = max(bucket.refilled_at, now_ns)
    if bucket.credit_ns < token_ns:
        return WH_E_LIMIT
    bucket.credit_ns -= token_ns
    return WH_OK


cdef void keep_scope(uint8_t* address, limiter_scope scope) noexcept nogil:
    cdef uint8_t[12] mapped             # ::ffff:0:0/96
    memset(mapped, 0, 10)
    mapped[10] = mapped[11] = 0xFF
    if memcmp(address, mapped, sizeof(mapped)) == 0:
        if scope == SCOPE_NETWORK:
            address[15] = 0
    elif scope == SCOPE_NETWORK:
        memset(address + 6, 0, 10)
    elif scope == SCOPE_HOST:
        memset(address + 8, 0, 8)


cdef int proved_limiter_init(proved_limiter* limiter, uint32_t capacity, uint64_t host_per_s, uint64_t host_burst,
                             uint64_t network_per_s, uint64_t network_burst) noexcept nogil:
    cdef int rc = rate_limiter_init(&limiter.hosts, capacity, host_per_s, host_burst)
    return rc if rc != WH_OK else rate_limiter_init(&limiter.networks, capacity, network_per_s, network_burst)


cdef int proved_limiter_allow(proved_limiter* limiter, const uint8_t* source, const uint8_t* address,
                              int64_t now_ns) noexcept nogil:
    cdef int rc = rate_limiter_allow(&limiter.hosts, source, SCOPE_HOST, now_ns)
    return rc if rc != WH_OK else rate_limiter_allow(&limiter.networks, address, SCOPE_NETWORK, now_ns)


cdef void proved_limiter_free(proved_limiter* limiter) noexcept nogil:
    rate_limiter_free(&limiter.hosts)
    rate_limiter_free(&limiter.networks)


cdef int64_t credit_now(const rate_limiter* limiter, const token_bucket* bucket,
                        int64_t now_ns) noexcept nogil:
    cdef int64_t full = NS_PER_S // <int64_t>limiter.tokens_per_s * <int64_t>limiter.burst
    cdef int64_t elapsed = now_ns - bucket.refilled_at
    if not bucket.used or elapsed >= full:
        return full
    return min(full, bucket.credit_ns + max(elapsed, 0))


# The address's bucket. Where it has none, it takes the fullest of its set: the one whose loss forgives least.
cdef token_bucket* bucket_of(rate_limiter* limiter, const uint8_t* address, int64_t now_ns) noexcept nogil:
    cdef uint64_t digest
    cdef token_bucket* ways
    cdef token_bucket* fullest
    cdef int i
    blake2s(<uint8_t*>&digest, sizeof(digest), limiter.hash_key, sizeof(limiter.hash_key), address,
            ADDRESS_LEN)
    ways = <token_bucket*>limiter.table + WAYS * (digest & (limiter.capacity // WAYS - 1))
    fullest = ways
    for i in range(WAYS):
        if ways[i].used and memcmp(ways[i].address, address, ADDRESS_LEN) == 0:
            return &ways[i]
        if credit_now(limiter, &ways[i], now_ns) > credit_now(limiter, fullest, now_ns):
            fullest = &ways[i]
    memset(fullest, 0, sizeof(token_bucket))
    memcpy(fullest.address, address, ADDRESS_LEN)
    fullest.credit_ns = credit_now(limiter, fullest, now_ns)
    fullest.used = True
    fullest.refilled_at = now_ns
    return fullest


# Python classes, for tests and for those who embed the core.

@cython.final
cdef class CookieKeys:
    cdef cookie_keys keys

    def __cinit__(self, bytes mac1_label not None, bytes cookie_label not None, bytes public_key not None,
                  bytes extra not None=b""):
        if len(public_key) != KEY_LEN:
            raise_rc(WH_E_LENGTH, "public key")
        cookie_keys_init(&self.keys, PyBytes_AS_STRING(mac1_label), PyBytes_AS_STRING(cookie_label),
                         public_key, extra, len(extra))

    def __dealloc__(self):
        sodium_memzero(&self.keys, sizeof(self.keys))


@cython.final
cdef class CookieJar:
    cdef cookie_jar jar
    cdef CookieKeys keys

    def __cinit__(self, CookieKeys keys not None):
        memset(&self.jar, 0, sizeof(self.jar))
        self.keys = keys

    def stamp(self, bytes body not None, *, int64_t now_ns):
        message = body + bytes(MACS_LEN)
        cookie_stamp(&self.jar, &self.keys.keys, <uint8_t*>PyBytes_AS_STRING(message), len(message), now_ns)
        return message

    def consume(self, bytes nonce not None, bytes sealed not None, *, int64_t now_ns):
        if len(nonce) != COOKIE_NONCE_LEN or len(sealed) != COOKIE_SEALED_LEN:
            raise_rc(WH_E_LENGTH, "cookie reply")
        cdef int rc = cookie_consume(&self.jar, &self.keys.keys, nonce, sealed, now_ns)
        if rc != WH_OK:
            raise_rc(rc, "cookie reply")


@cython.final
cdef class CookieChecker:
    cdef cookie_checker checker

    def __cinit__(self, CookieKeys keys not None):
        memset(&self.checker, 0, sizeof(self.checker))
        cookie_checker_init(&self.checker, &keys.keys)

    def __dealloc__(self):
        sodium_memzero(&self.checker, sizeof(self.checker))

    def check_mac1(self, bytes message not None):
        return cookie_check_mac1(&self.checker, message, len(message)) == WH_OK

    def check_mac2(self, bytes message not None, bytes source not None, *, int64_t now_ns):
        require_source(source)
        return cookie_check_mac2(&self.checker, message, len(message), source, now_ns) == WH_OK

    def make(self, bytes message not None, bytes source not None, *, int64_t now_ns):
        cdef uint8_t[COOKIE_NONCE_LEN] nonce
        cdef uint8_t[COOKIE_SEALED_LEN] sealed
        require_source(source)
        if len(message) < MACS_LEN:
            raise_rc(WH_E_LENGTH, "message to answer with a cookie")
        cookie_make(&self.checker, message, len(message), source, now_ns, nonce, sealed)
        return (PyBytes_FromStringAndSize(<char*>nonce, COOKIE_NONCE_LEN),
                PyBytes_FromStringAndSize(<char*>sealed, COOKIE_SEALED_LEN))


cdef int require_source(bytes source) except -1:
    if len(source) != COOKIE_SOURCE_LEN:
        raise_rc(WH_E_LENGTH, "source address")
    return 0


@cython.final
cdef class RateLimiter:
    cdef rate_limiter limiter

    def __cinit__(self, uint32_t capacity, *, uint64_t tokens_per_s, uint64_t burst):
        self.limiter.table = NULL
        if not 1 <= tokens_per_s <= 1000000 or not 1 <= burst <= 1000000:
            raise ValueError("tokens_per_s and burst are 1 to 1,000,000")
        if rate_limiter_init(&self.limiter, capacity, tokens_per_s, burst) != WH_OK:
            raise_rc(WH_E_MEMORY, "rate limiter")

    def __dealloc__(self):
        rate_limiter_free(&self.limiter)

    def allow(self, bytes address not None, *, bint by_prefix, int64_t now_ns):
        if len(address) != ADDRESS_LEN:
            raise_rc(WH_E_LENGTH, "address")
        return rate_limiter_allow(&self.limiter, address, SCOPE_NETWORK if by_prefix else SCOPE_ADDRESS, now_ns) == WH_OK
