"""mac1, mac2, cookie replies (whitepaper 5.3, 5.4.4, 5.4.7) and the handshake rate limiter.

WireGuard and the control channel differ only in their labels and in what the mac1 key hashes.
All times are monotonic ns. A cookie_checker is for any thread; each other struct belongs to one.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t

cdef enum:
    COOKIE_MAC_LEN = 16
    COOKIE_NONCE_LEN = 24
    COOKIE_SEALED_LEN = 32
    COOKIE_SOURCE_LEN = 18

cdef struct cookie_keys:                # of one responder key: what its mac1s and cookies are made with
    uint8_t mac1_key[32]
    uint8_t cookie_key[32]

cdef struct cookie_jar:                 # initiator side: what one peer's last cookie reply gave us
    uint8_t cookie[16]
    uint8_t last_mac1[16]
    int64_t cookie_at                   # 0: none
    bint sent_mac1                      # last_mac1 is of a message still waiting for its answer

cdef struct cookie_checker:             # responder side
    uint32_t lock                       # spin lock over the rest; zero at first
    cookie_keys keys
    uint8_t secret[32]                  # changed every 120 s
    int64_t secret_at

cdef struct rate_limiter:               # token buckets in a bounded hash table; opaque
    void* table
    uint32_t capacity
    uint64_t tokens_per_s
    uint64_t burst
    uint8_t hash_key[16]

cdef enum limiter_scope:                # what shares a bucket
    SCOPE_ADDRESS                       # an address
    SCOPE_HOST                          # an IPv4 address, an IPv6 /64
    SCOPE_NETWORK                       # an IPv4 /24, an IPv6 /48

cdef struct proved_limiter:             # handshakes whose mac2 shows that their sender receives where they come from
    rate_limiter hosts
    rate_limiter networks               # so that who has many addresses has not as many buckets

# mac1_key = HASH(label1 || public || extra), cookie_key = HASH(label2 || public). Labels end with a
# zero byte, which is not hashed.
cdef void cookie_keys_init(cookie_keys* keys, const char* label1, const char* label2, const uint8_t* public,
                           const uint8_t* extra, size_t extra_len) noexcept nogil
# Write mac1 and mac2 (zeros without a fresh cookie) over the last 32 of n bytes, and remember mac1.
cdef void cookie_stamp(cookie_jar* jar, const cookie_keys* keys, uint8_t* message, size_t n,
                       int64_t now_ns) noexcept nogil
# Take the cookie out of a reply: nonce 24, sealed 32. WH_OK, WH_E_AUTH, WH_E_STATE (none was asked for).
cdef int cookie_consume(cookie_jar* jar, const cookie_keys* keys, const uint8_t* nonce, const uint8_t* sealed,
                        int64_t now_ns) noexcept nogil

cdef bint cookie_is_fresh(const cookie_jar* jar, int64_t now_ns) noexcept nogil

cdef void cookie_checker_init(cookie_checker* checker, const cookie_keys* keys) noexcept nogil
# message: n bytes, which end with mac1 || mac2. WH_OK, WH_E_LENGTH, WH_E_MAC.
cdef int cookie_check_mac1(cookie_checker* checker, const uint8_t* message, size_t n) noexcept nogil
# The same for mac2. source: 18 bytes, address 16 || port 2 (or what docs/protocol.md section 1 says stands
# for them).
cdef int cookie_check_mac2(cookie_checker* checker, const uint8_t* message, size_t n, const uint8_t* source,
                           int64_t now_ns) noexcept nogil
# Fill nonce (24) and sealed (32) of a cookie reply to message.
cdef void cookie_make(cookie_checker* checker, const uint8_t* message, size_t n, const uint8_t* source,
                      int64_t now_ns, uint8_t* nonce, uint8_t* sealed) noexcept nogil

# capacity: buckets kept at most (rounded up to a power of two, at least 8); tokens_per_s and burst: at least
# 1. WH_OK, WH_E_MEMORY.
cdef int rate_limiter_init(rate_limiter* limiter, uint32_t capacity, uint64_t tokens_per_s,
                           uint64_t burst) noexcept nogil
# address: 16 bytes, an IPv4 one as ::ffff:a.b.c.d. WH_OK or WH_E_LIMIT. A full table evicts the fullest of a few
# candidates, never refuses.
cdef int rate_limiter_allow(rate_limiter* limiter, const uint8_t* address, limiter_scope scope,
                            int64_t now_ns) noexcept nogil
cdef void rate_limiter_free(rate_limiter* limiter) noexcept nogil

# host_per_s and so on as above. WH_OK, WH_E_MEMORY.
cdef int proved_limiter_init(proved_limiter* limiter, uint32_t capacity, uint64_t host_per_s, uint64_t host_burst,
                             uint64_t network_per_s, uint64_t network_burst) noexcept nogil
# source: what the cookie was made of; address: of whom the host's share is a part. 16 bytes each. WH_OK, WH_E_LIMIT.
cdef int proved_limiter_allow(proved_limiter* limiter, const uint8_t* source, const uint8_t* address,
                              int64_t now_ns) noexcept nogil
cdef void proved_limiter_free(proved_limiter* limiter) noexcept nogil

# 18 bytes that stand for where a datagram came from (docs/protocol.md section 1): remote itself, or where it came out
# of a channel a hash of both.
cdef void cookie_source(uint8_t* source, const uint8_t* remote, uint32_t channel) noexcept nogil
