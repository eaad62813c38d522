"""XEdDSA: Ed25519 signatures with X25519 keys (Signal's XEdDSA specification; docs/protocol.md section 4).

Letters are the specification's: k and K an X25519 pair, a and A the Ed25519 pair made of it, q the group's
order. The Python faces are SecretKey.sign and verify in whcore.keys.
"""

from libc.string cimport memcpy, memset

from whcore.errors cimport WH_E_AUTH, WH_OK
from whcore.field25519 cimport (
    fe25519, fe_add, fe_from_bytes, fe_from_int, fe_invert, fe_mul, fe_sub, fe_to_bytes,
)
from whcore.sodium cimport (
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_negate,
    crypto_core_ed25519_scalar_reduce,
    crypto_hash_sha512_final,
    crypto_hash_sha512_init,
    crypto_hash_sha512_state,
    crypto_hash_sha512_update,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_sign_ed25519_verify_detached,
    sodium_init,
    sodium_memzero,
)

if sodium_init() < 0:
    raise ImportError("libsodium did not initialise")

cdef enum:
    SCALAR_LEN = 32
    POINT_LEN = 32
    HASH_LEN = 64
    NOISE_LEN = 64
    SIGN_BIT = 0x80             # in the last byte of an encoded Edwards point


cdef void calculate_key_pair(uint8_t* a, uint8_t* A, const uint8_t* secret) noexcept nogil:
    """a = k or -k mod q, whichever has a point A = aB of sign 0; k is the clamped secret. Constant time in it."""
    cdef uint8_t wide[2 * SCALAR_LEN]
    cdef uint8_t negated[SCALAR_LEN]
    cdef uint8_t mask
    cdef int i
    memset(wide, 0, sizeof(wide))
    memcpy(wide, secret, SCALAR_LEN)
    wide[0] &= 248              # RFC 7748, 5
    wide[31] = (wide[31] & 127) | 64
    crypto_scalarmult_ed25519_base_noclamp(A, wide)
    crypto_core_ed25519_scalar_reduce(a, wide)
    crypto_core_ed25519_scalar_negate(negated, a)
    mask = <uint8_t>(-(A[POINT_LEN - 1] >> 7))
    for i in range(SCALAR_LEN):
        a[i] ^= mask & (a[i] ^ negated[i])
    A[POINT_LEN - 1] &= SIGN_BIT - 1
    sodium_memzero(wide, sizeof(wide))
    sodium_memzero(negated, sizeof(negated))


cdef void hash_nonce(uint8_t* r, const uint8_t* a, const uint8_t* message, size_t n,
                     const uint8_t* noise) noexcept nogil:
    """r = hash_1(a || M || Z) mod q; hash_1 is SHA-512 behind the 32 bytes of 2^256 - 2."""
    cdef crypto_hash_sha512_state state
    cdef uint8_t prefix[32]
    cdef uint8_t digest[HASH_LEN]
    memset(prefix, 0xFF, sizeof(prefix))
    prefix[0] = 0xFE
    crypto_hash_sha512_init(&state)
    crypto_hash_sha512_update(&state, prefix, sizeof(prefix))
    crypto_hash_sha512_update(&state, a, SCALAR_LEN)
    crypto_hash_sha512_update(&state, message, n)
    crypto_hash_sha512_update(&state, noise, NOISE_LEN)
    crypto_hash_sha512_final(&state, digest)
    crypto_core_ed25519_scalar_reduce(r, digest)
    sodium_memzero(&state, sizeof(state))
    sodium_memzero(digest, sizeof(digest))


cdef void hash_challenge(uint8_t* h, const uint8_t* R, const uint8_t* A, const uint8_t* message,
                         size_t n) noexcept nogil:
    """h = SHA-512(R || A || M) mod q."""
    cdef crypto_hash_sha512_state state
    cdef uint8_t digest[HASH_LEN]
    crypto_hash_sha512_init(&state)
    crypto_hash_sha512_update(&state, R, POINT_LEN)
    crypto_hash_sha512_update(&state, A, POINT_LEN)
    crypto_hash_sha512_update(&state, message, n)
    crypto_hash_sha512_final(&state, digest)
    crypto_core_ed25519_scalar_reduce(h, digest)


cdef void xeddsa_sign(uint8_t* signature, const uint8_t* secret, const uint8_t* message, size_t n,
                      const uint8_t* noise) noexcept nogil:
    """signature = R || s with R = rB and s = r + ha mod q."""
    cdef uint8_t a[SCALAR_LEN]
    cdef uint8_t A[POINT_LEN]
    cdef uint8_t r[SCALAR_LEN]
    cdef uint8_t h[SCALAR_LEN]
    cdef uint8_t product[SCALAR_LEN]
    calculate_key_pair(a, A, secret)
    hash_nonce(r, a, message, n, noise)
    crypto_scalarmult_ed25519_base_noclamp(signature, r)
    hash_challenge(h, signature, A, message, n)
    crypto_core_ed25519_scalar_mul(product, h, a)
    crypto_core_ed25519_scalar_add(signature + POINT_LEN, product, r)
    sodium_memzero(a, sizeof(a))
    sodium_memzero(r, sizeof(r))
    sodium_memzero(product, sizeof(product))


cdef void edwards_of(uint8_t* A, const uint8_t* u_bytes) noexcept nogil:
    """The Edwards encoding of a Montgomery u with sign 0: y = (u - 1) / (u + 1). On public bytes only."""
    cdef fe25519 u, one, above, below
    fe_from_bytes(&u, u_bytes)
    fe_from_int(&one, 1)
    fe_sub(&above, &u, &one)
    fe_add(&below, &u, &one)
    fe_invert(&below, &below)
    fe_mul(&above, &above, &below)
    fe_to_bytes(A, &above)


cdef int xeddsa_verify(const uint8_t* public_key, const uint8_t* message, size_t n,
                       const uint8_t* signature) noexcept nogil:
    """libsodium refuses s >= q and any R or A that is non-canonical, off the curve or of low order."""
    cdef uint8_t A[POINT_LEN]
    edwards_of(A, public_key)
    if crypto_sign_ed25519_verify_detached(signature, message, n, A) != 0:
        return WH_E_AUTH
    return WH_OK
