"""Blinded keys (docs/protocol.md section 4): records that are signed by a key which only those can compute, and tell
from chance, who know the owner's; and whose content only they can read.

With the letters of XEdDSA, and a blinding b of 64 bytes that everybody who knows the owner's key can compute:
h = b mod q; A' = A + hB is the blinded key, a' = a + h mod q what it signs with. Signatures are plain Ed25519 under A'.
"""

from libc.stdint cimport uint8_t

from whcore.errors cimport WH_OK
from whcore.keys cimport SecretKey, check_public_key_bytes
from whcore.sodium cimport (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_core_ed25519_add,
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_sign_ed25519_verify_detached,
    randombytes_buf,
    sodium_init,
    sodium_memzero,
)
from whcore.xeddsa cimport calculate_key_pair, edwards_of, hash_challenge, hash_nonce

from whcore.errors import InvalidKey

if sodium_init() < 0:
    raise ImportError("libsodium did not initialise")

cdef enum:
    KEY_LEN = 32
    SCALAR_LEN = 32
    POINT_LEN = 32
    BLINDING_LEN = 64
    SIGNATURE_LEN = 64
    NOISE_LEN = 64
    NONCE_LEN = 24
    TAG_LEN = 16


cdef int check_blinding(bytes blinding) except -1:
    if len(blinding) != BLINDING_LEN:
        raise ValueError(f"a blinding has {BLINDING_LEN} bytes, not {len(blinding)}")
    return 0


def blind(bytes public_key not None, bytes blinding not None):
    """See blinding.pyi."""
    cdef uint8_t A[POINT_LEN]
    cdef uint8_t hB[POINT_LEN]
    cdef uint8_t blinded[POINT_LEN]
    cdef uint8_t h[SCALAR_LEN]
    check_blinding(blinding)
    if len(public_key) != KEY_LEN or check_public_key_bytes(public_key) != WH_OK:
        raise InvalidKey("no public key can be blinded but a canonical one")
    edwards_of(A, public_key)
    crypto_core_ed25519_scalar_reduce(h, blinding)
    if crypto_scalarmult_ed25519_base_noclamp(hB, h) != 0 or crypto_core_ed25519_add(blinded, A, hB) != 0:
        raise InvalidKey("the key is no point of the curve", hint="nobody can have made it")
    return (<const char*>blinded)[:POINT_LEN]


cdef void sign_blinded(uint8_t* signature, const uint8_t* secret, const uint8_t* blinding, const uint8_t* message,
                       size_t n, const uint8_t* noise) noexcept nogil:
    """signature = R || s with R = rB and s = r + H(R || A' || M) a' mod q. Constant time in the secret."""
    cdef uint8_t a[SCALAR_LEN]
    cdef uint8_t A[POINT_LEN]
    cdef uint8_t r[SCALAR_LEN]
    cdef uint8_t h[SCALAR_LEN]
    cdef uint8_t product[SCALAR_LEN]
    calculate_key_pair(a, A, secret)
    crypto_core_ed25519_scalar_reduce(h, blinding)
    crypto_core_ed25519_scalar_add(a, a, h)
    crypto_scalarmult_ed25519_base_noclamp(A, a)
    hash_nonce(r, a, message, n, noise)
    crypto_scalarmult_ed25519_base_noclamp(signature, r)
    hash_challenge(h, signature, A, message, n)
    crypto_core_ed25519_scalar_mul(product, h, a)
    crypto_core_ed25519_scalar_add(signature + POINT_LEN, product, r)
    sodium_memzero(a, sizeof(a))
    sodium_memzero(r, sizeof(r))
    sodium_memzero(product, sizeof(product))


def sign(SecretKey secret_key not None, bytes blinding not None, bytes message not None):
    """See blinding.pyi."""
    cdef uint8_t signature[SIGNATURE_LEN]
    cdef uint8_t noise[NOISE_LEN]
    check_blinding(blinding)
    secret_key.check_open()
    randombytes_buf(noise, NOISE_LEN)
    sign_blinded(signature, secret_key.key, blinding, message, len(message), noise)
    sodium_memzero(noise, NOISE_LEN)
    return (<const char*>signature)[:SIGNATURE_LEN]


def verify(bytes blinded not None, bytes message not None, bytes signature not None):
    """See blinding.pyi. libsodium refuses s >= q and any R or A' that is non-canonical or of low order."""
    if len(blinded) != POINT_LEN or len(signature) != SIGNATURE_LEN:
        return False
    return crypto_sign_ed25519_verify_detached(signature, message, len(message), blinded) == 0


def seal(bytes key not None, bytes nonce not None, bytes plaintext not None):
    """See blinding.pyi."""
    cdef bytearray sealed = bytearray(len(plaintext) + TAG_LEN)
    if len(key) != KEY_LEN or len(nonce) != NONCE_LEN:
        raise ValueError("a key has 32 bytes, and a nonce 24")
    crypto_aead_xchacha20poly1305_ietf_encrypt(
        sealed, NULL, <const uint8_t*>plaintext, len(plaintext), NULL, 0, NULL, <const uint8_t*>nonce, <const uint8_t*>key)
    return bytes(sealed)


def open_sealed(bytes key not None, bytes nonce not None, bytes sealed not None):
    """See blinding.pyi."""
    cdef bytearray plaintext
    if len(key) != KEY_LEN or len(nonce) != NONCE_LEN or len(sealed) < TAG_LEN:
        return None
    plaintext = bytearray(len(sealed) - TAG_LEN)
    if crypto_aead_xchacha20poly1305_ietf_decrypt(
            plaintext, NULL, NULL, <const uint8_t*>sealed, len(sealed), NULL, 0,
            <const uint8_t*>nonce, <const uint8_t*>key) != 0:
        return None
    return bytes(plaintext)
