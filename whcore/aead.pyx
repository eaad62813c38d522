"""ChaCha20-Poly1305 and XChaCha20-Poly1305 on libsodium, behind the call table that other engines share.

The Python functions are for tests and small uses: they copy, and they take a key as bytes.
"""

from libc.string cimport memset

from whcore.errors cimport WH_E_AUTH, WH_E_LENGTH, WH_OK, raise_rc
from whcore.sodium cimport (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    sodium_init,
)

if sodium_init() < 0:
    raise ImportError("libsodium did not initialise")

cdef enum:
    KEY_LEN = 32
    TAG_LEN = 16
    NONCE_LEN = 12              # RFC 8439, 2.8
    XNONCE_LEN = 24


cdef inline void counter_nonce(uint8_t* nonce, uint64_t counter) noexcept nogil:
    """4 zero bytes || counter, little-endian (whitepaper 5.4.6)."""
    cdef int i
    memset(nonce, 0, 4)
    for i in range(8):
        nonce[4 + i] = <uint8_t>(counter >> (8 * i))


cdef void aead_seal(uint8_t* dst, const uint8_t* src, size_t n, const uint8_t* ad, size_t ad_len,
                    uint64_t counter, const uint8_t* key) noexcept nogil:
    """dst: n + 16 bytes, may equal src."""
    cdef uint8_t nonce[NONCE_LEN]
    counter_nonce(nonce, counter)
    crypto_aead_chacha20poly1305_ietf_encrypt(dst, NULL, src, n, ad, ad_len, NULL, nonce, key)


cdef int aead_open(uint8_t* dst, const uint8_t* src, size_t n, const uint8_t* ad, size_t ad_len,
                   uint64_t counter, const uint8_t* key) noexcept nogil:
    """src: n bytes with the tag; dst: n - 16 bytes, may equal src. WH_OK, WH_E_LENGTH, WH_E_AUTH."""
    cdef uint8_t nonce[NONCE_LEN]
    if n < TAG_LEN:
        return WH_E_LENGTH
    counter_nonce(nonce, counter)
    # libsodium zeroes dst when the tag does not verify.
    if crypto_aead_chacha20poly1305_ietf_decrypt(dst, NULL, NULL, src, n, ad, ad_len, nonce, key) != 0:
        return WH_E_AUTH
    return WH_OK


cdef void xaead_seal(uint8_t* dst, const uint8_t* src, size_t n, const uint8_t* ad, size_t ad_len,
                     const uint8_t* nonce, const uint8_t* key) noexcept nogil:
    """nonce: 24 bytes; dst: n + 16 bytes, may equal src."""
    crypto_aead_xchacha20poly1305_ietf_encrypt(dst, NULL, src, n, ad, ad_len, NULL, nonce, key)


cdef int xaead_open(uint8_t* dst, const uint8_t* src, size_t n, const uint8_t* ad, size_t ad_len,
                    const uint8_t* nonce, const uint8_t* key) noexcept nogil:
    """As aead_open, with a 24-byte nonce."""
    if n < TAG_LEN:
        return WH_E_LENGTH
    if crypto_aead_xchacha20poly1305_ietf_decrypt(dst, NULL, NULL, src, n, ad, ad_len, nonce, key) != 0:
        return WH_E_AUTH
    return WH_OK


cdef void sodium_seal_batch(aead_job* jobs, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        aead_seal(jobs[i].dst, jobs[i].src, jobs[i].len, NULL, 0, jobs[i].counter, jobs[i].key)
        jobs[i].result = WH_OK


cdef void sodium_open_batch(aead_job* jobs, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        jobs[i].result = aead_open(jobs[i].dst, jobs[i].src, <size_t>jobs[i].len + TAG_LEN, NULL, 0,
                                   jobs[i].counter, jobs[i].key)


cdef aead_engine _SODIUM = aead_engine(b"libsodium", sodium_seal_batch, sodium_open_batch)


cdef const aead_engine* aead_default() noexcept nogil:
    """The engine to use on this machine; its table lives as long as the process."""
    return &_SODIUM


cdef int check_lengths(bytes key, bytes nonce=None) except -1:
    if len(key) != KEY_LEN:
        raise ValueError("key is 32 bytes")
    if nonce is not None and len(nonce) != XNONCE_LEN:
        raise ValueError("nonce is 24 bytes")
    return 0


cdef bytearray room_for_opened(bytes sealed):
    if len(sealed) < TAG_LEN:
        raise_rc(WH_E_LENGTH, "open")
    # One byte more than the plaintext, so that an empty one has an address too.
    return bytearray(len(sealed) - TAG_LEN + 1)


def seal(bytes key not None, uint64_t counter, bytes plaintext not None, bytes ad not None=b""):
    """ChaCha20-Poly1305 (RFC 8439) with a 32-byte key: 16 bytes more than plaintext. For tests."""
    check_lengths(key)
    out = bytearray(len(plaintext) + TAG_LEN)
    aead_seal(out, plaintext, len(plaintext), ad, len(ad), counter, key)
    return bytes(out)


def open(bytes key not None, uint64_t counter, bytes sealed not None, bytes ad not None=b""):
    """The plaintext of seal(). Raises BadPacket. For tests and small uses."""
    check_lengths(key)
    out = room_for_opened(sealed)
    rc = aead_open(out, sealed, len(sealed), ad, len(ad), counter, key)
    if rc != WH_OK:
        raise_rc(rc, "open")
    return bytes(out[:len(sealed) - TAG_LEN])


def xseal(bytes key not None, bytes nonce not None, bytes plaintext not None, bytes ad not None=b""):
    """XChaCha20-Poly1305 with a 32-byte key and a 24-byte nonce. For tests and small uses."""
    check_lengths(key, nonce)
    out = bytearray(len(plaintext) + TAG_LEN)
    xaead_seal(out, plaintext, len(plaintext), ad, len(ad), nonce, key)
    return bytes(out)


def xopen(bytes key not None, bytes nonce not None, bytes sealed not None, bytes ad not None=b""):
    """The plaintext of xseal(). Raises BadPacket. For tests and small uses."""
    check_lengths(key, nonce)
    out = room_for_opened(sealed)
    rc = xaead_open(out, sealed, len(sealed), ad, len(ad), nonce, key)
    if rc != WH_OK:
        raise_rc(rc, "xopen")
    return bytes(out[:len(sealed) - TAG_LEN])
