"""Aliases (docs/protocol.md section 9): secrets derived from an invitation's seed, and proofs of having one."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from whcore.blake2s cimport hmac_blake2s
from whcore.control_wire cimport store32
from whcore.errors cimport WH_OK, raise_rc
from whcore.keys cimport SecretKey, check_public_key_bytes, secret_key_of, workbit_of, x25519
from whcore.sodium cimport (
    crypto_scalarmult_base,
    crypto_verify_32,
    sodium_free,
    sodium_init,
    sodium_malloc,
    sodium_memzero,
)

if sodium_init() < 0:
    raise ImportError("libsodium did not initialise")

cdef enum:
    KEY_LEN = 32
    SEED_LEN = 16
    PROOF_LEN = 32
    WORKBIT_MAX = 24            # 2^24 tries of 20 us are six minutes; callers ask for far less

cdef bytes ALIAS_KEY_INFO = b"wirehub alias key"
cdef bytes PROOF_INFO = b"wirehub alias"


cdef void hkdf_extract(uint8_t* extracted, const uint8_t* material, size_t n) noexcept nogil:
    """HKDF-Extract without salt (RFC 5869, 2.2): a key of zeros and an empty one are the same to HMAC."""
    hmac_blake2s(extracted, NULL, 0, material, n)


cdef void hkdf_expand(hkdf_work* work, const uint8_t* info, size_t n) noexcept nogil:
    """The first 32 bytes of HKDF-Expand (RFC 5869, 2.3) into work.output; n <= INFO_MAX."""
    memcpy(work.block, info, n)
    work.block[n] = 1
    hmac_blake2s(work.output, work.extracted, KEY_LEN, work.block, n + 1)


def derive_alias(bytes seed not None, bytes namespace not None, int workbit):
    """See alias.pyi."""
    cdef hkdf_work* work
    cdef uint8_t[INFO_MAX] info
    cdef uint8_t[KEY_LEN] public_key
    cdef size_t label_len = len(ALIAS_KEY_INFO)
    cdef const uint8_t* space = namespace
    cdef size_t space_len = len(namespace)
    cdef uint32_t counter = 0
    if len(seed) != SEED_LEN:
        raise ValueError(f"a seed has {SEED_LEN} bytes, not {len(seed)}")
    if not 0 <= workbit <= WORKBIT_MAX:
        raise ValueError(f"workbit is 0 to {WORKBIT_MAX}")
    work = <hkdf_work*>sodium_malloc(sizeof(hkdf_work))
    if work == NULL:
        raise MemoryError("no guarded memory for an alias")
    try:
        hkdf_extract(work.extracted, seed, SEED_LEN)
        memcpy(info, <const uint8_t*>ALIAS_KEY_INFO, label_len)
        with nogil:
            while True:
                store32(info + label_len, counter)
                hkdf_expand(work, info, label_len + sizeof(counter))
                crypto_scalarmult_base(public_key, work.output)
                if workbit_of(public_key, space, space_len) >= workbit:
                    break
                counter += 1
        return secret_key_of(work.output)
    finally:
        sodium_free(work)


cdef int compute_proof(uint8_t* proof, SecretKey secret, bytes public, bytes transcript) except -1:
    """HMAC(HKDF(DH(secret, public), "wirehub alias"), transcript). Raises InvalidKey, SystemFailure."""
    cdef hkdf_work work
    cdef uint8_t[KEY_LEN] shared
    cdef int rc
    secret.check_open()
    if len(public) != KEY_LEN:
        raise ValueError(f"a public key has {KEY_LEN} bytes, not {len(public)}")
    rc = check_public_key_bytes(public)
    if rc == WH_OK:
        rc = x25519(shared, secret.key, public)
    if rc != WH_OK:
        raise_rc(rc, "alias")
    hkdf_extract(work.extracted, shared, KEY_LEN)
    hkdf_expand(&work, PROOF_INFO, len(PROOF_INFO))
    hmac_blake2s(proof, work.output, KEY_LEN, transcript, len(transcript))
    sodium_memzero(shared, KEY_LEN)
    sodium_memzero(&work, sizeof(work))
    return 0


def prove(SecretKey secret not None, bytes public not None, bytes transcript not None):
    """See alias.pyi."""
    cdef uint8_t[PROOF_LEN] proof
    compute_proof(proof, secret, public, transcript)
    return (<const char*>proof)[:PROOF_LEN]


def check(SecretKey secret not None, bytes public not None, bytes transcript not None,
          bytes proof not None):
    """See alias.pyi."""
    cdef uint8_t[PROOF_LEN] expected
    cdef const uint8_t* given = proof
    if len(proof) != PROOF_LEN or len(public) != KEY_LEN or check_public_key_bytes(public) != WH_OK:
        return False
    compute_proof(expected, secret, public, transcript)
    cdef bint same = crypto_verify_32(expected, given) == 0
    sodium_memzero(expected, PROOF_LEN)
    return same
