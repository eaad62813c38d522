"""ChaCha20-Poly1305 and XChaCha20-Poly1305 on libsodium; for batches also by Intel's IPsec-MB, where that is here.

The Python functions are for tests and small uses: they copy, and they take a key as bytes.
"""

from libc.stdlib cimport free, getenv, malloc
from libc.string cimport memcmp, memset, strcmp

from whcore.errors cimport WH_E_AUTH, WH_E_LENGTH, WH_E_MEMORY, WH_OK, raise_rc
from whcore.sodium cimport (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    sodium_init,
    sodium_version_string,
)

cdef extern from "ipsec_mb.h" nogil:
    int32_t WH_MB_UNDONE
    enum wh_mb_found:
        WH_MB_LOADED
        WH_MB_NOT_COMPILED
        WH_MB_NO_LIBRARY
        WH_MB_OTHER_VERSION
    wh_mb_found wh_mb_load()
    const char* wh_mb_version()
    void* wh_mb_new()
    void wh_mb_free(void* state)
    void wh_mb_run(void* state, aead_job* jobs, size_t n, bint sealing, int bad_tag)

if sodium_init() < 0:
    raise ImportError("libsodium did not initialise")

cdef enum:
    KEY_LEN = 32
    TAG_LEN = 16
    NONCE_LEN = 12              # RFC 8439, 2.8
    XNONCE_LEN = 24
    CHECKED_LEN = 9216          # room for the longest checked text and its tag


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


# --- engines --------------------------------------------------------------------------------------------------------

cdef inline void sodium_run_job(aead_job* job, bint sealing) noexcept nogil:
    if sealing:
        aead_seal(job.dst, job.src, job.len, NULL, 0, job.counter, job.key)
        job.result = WH_OK
    else:
        job.result = aead_open(job.dst, job.src, <size_t>job.len + TAG_LEN, NULL, 0, job.counter, job.key)


cdef void sodium_run(void* state, aead_job* jobs, size_t n, bint sealing) noexcept nogil:
    cdef size_t i
    for i in range(n):
        sodium_run_job(&jobs[i], sealing)


cdef void mb_run(void* state, aead_job* jobs, size_t n, bint sealing) noexcept nogil:
    cdef size_t i
    wh_mb_run(state, jobs, n, sealing, WH_E_AUTH)
    for i in range(n):
        if jobs[i].result == WH_MB_UNDONE:
            sodium_run_job(&jobs[i], sealing)


cdef aead_engine[2] _ENGINES        # slower ones first; libsodium works everywhere
_ENGINES[0] = aead_engine(b"libsodium", NULL, NULL, sodium_run)
_ENGINES[1] = aead_engine(b"IPsec-MB", wh_mb_new, wh_mb_free, mb_run)
cdef int _working = 1               # how many of them work on this machine
cdef const aead_engine* _chosen = NULL
cdef str _obstacle = ""

_OBSTACLES = {WH_MB_NOT_COMPILED: "not built", WH_MB_NO_LIBRARY: "no library", WH_MB_OTHER_VERSION: "other version"}


cdef int aead_choose_engine() except -1:
    """WH_AEAD=libsodium in the environment leaves others alone."""
    global _chosen, _working, _obstacle
    cdef const char* wanted
    if _chosen == NULL:
        _obstacle = find_obstacle()
        if not _obstacle:
            _working = 2
        wanted = getenv(b"WH_AEAD")
        _chosen = &_ENGINES[_working - 1]
        if wanted != NULL and strcmp(wanted, _ENGINES[0].name) == 0:
            _chosen = &_ENGINES[0]
            _obstacle = _obstacle or "unwanted"
    return 0


cdef str find_obstacle():
    """Why IPsec-MB does not work here; empty: it does."""
    cdef aead_context context
    cdef wh_mb_found found = wh_mb_load()
    if found != WH_MB_LOADED:
        return _OBSTACLES[found]
    if context_init(&context, &_ENGINES[1]) != WH_OK:
        return "processor"
    aead_context_free(&context)
    return "" if agrees_with_libsodium(&_ENGINES[1]) else "wrong results"


cdef int aead_context_init(aead_context* context) noexcept nogil:
    return context_init(context, _chosen)


cdef int context_init(aead_context* context, const aead_engine* engine) noexcept nogil:
    context.engine = engine
    context.state = NULL
    if engine.make_state != NULL:
        context.state = engine.make_state()
        if context.state == NULL:
            return WH_E_MEMORY
    return WH_OK


cdef void aead_context_free(aead_context* context) noexcept nogil:
    if context.state != NULL:
        context.engine.free_state(context.state)
        context.state = NULL


cdef bint agrees_with_libsodium(const aead_engine* engine) except *:
    """Over lengths on either side of what implementations treat apart, each opened again, and not with a bit changed."""
    cdef aead_context context
    cdef uint8_t* room = <uint8_t*>malloc(3 * CHECKED_LEN)
    cdef size_t length
    cdef bint agrees = True
    if room == NULL or context_init(&context, engine) != WH_OK:
        free(room)
        return False
    try:
        for length in _CHECKED_LENGTHS:
            agrees = agrees and agrees_at(&context, room, length)
    finally:
        aead_context_free(&context)
        free(room)
    return agrees


_CHECKED_LENGTHS = (1, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 1408, 1440, 9000)


cdef bint agrees_at(aead_context* context, uint8_t* room, size_t length) noexcept nogil:
    """room: 3 * CHECKED_LEN bytes."""
    cdef uint8_t* text = room
    cdef uint8_t* expected = room + CHECKED_LEN
    cdef uint8_t* found = room + 2 * CHECKED_LEN
    cdef uint8_t key[KEY_LEN]
    cdef aead_job job
    cdef size_t i
    for i in range(KEY_LEN):
        key[i] = <uint8_t>(7 * i + length)
    for i in range(length):
        text[i] = found[i] = <uint8_t>(31 * i + length)
    job.key = key
    job.counter = length << 32 | length
    job.len = <uint32_t>length
    job.src = job.dst = found
    aead_seal(expected, text, length, NULL, 0, job.counter, key)
    context.engine.run(context.state, &job, 1, True)
    if job.result != WH_OK or memcmp(found, expected, length + TAG_LEN) != 0:
        return False
    context.engine.run(context.state, &job, 1, False)
    if job.result != WH_OK or memcmp(found, text, length) != 0:
        return False
    expected[length - 1] ^= 1
    job.src = expected
    context.engine.run(context.state, &job, 1, False)
    return job.result == WH_E_AUTH


# --- for tests and small uses ---------------------------------------------------------------------------------------


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


cdef const aead_engine* engine_named(str name) except NULL:
    cdef int i
    aead_choose_engine()
    for i in range(_working):
        if _ENGINES[i].name.decode() == name:
            return &_ENGINES[i]
    raise ValueError(f"no AEAD engine {name} here")


def engine():
    """The name of the one that packets are sealed and opened by."""
    aead_choose_engine()
    return _chosen.name.decode()


def versions():
    """Of the libraries of those that work here, by name."""
    aead_choose_engine()
    known = {"libsodium": sodium_version_string().decode()}
    if _working > 1:
        known["IPsec-MB"] = wh_mb_version().decode()
    return known


def obstacle():
    """Why IPsec-MB is not used; empty: it is."""
    aead_choose_engine()
    return _obstacle


def engines():
    """Names of those that work on this machine."""
    aead_choose_engine()
    return tuple([_ENGINES[i].name.decode() for i in range(_working)])


def run_batch(str name not None, bint sealing, messages not None):
    """Seal or open (32-byte key, counter, text) messages at once and in place, by the engine of that name; without
    associated data. A list of bytes, None for what does not open. For tests."""
    cdef const aead_engine* chosen = engine_named(name)
    cdef aead_context context
    cdef size_t i, count = len(messages)
    cdef bytearray place
    cdef bytes key
    cdef aead_job* jobs = <aead_job*>malloc((count + 1) * sizeof(aead_job))
    if jobs == NULL:
        raise MemoryError
    if context_init(&context, chosen) != WH_OK:
        free(jobs)
        raise MemoryError
    try:
        places = []
        for i, (key, counter, text) in enumerate(messages):
            check_lengths(key)
            if not sealing and len(text) < TAG_LEN:
                raise_rc(WH_E_LENGTH, "open")
            place = bytearray(text) + bytearray(TAG_LEN)
            places.append(place)
            jobs[i].src = jobs[i].dst = place
            jobs[i].key = key
            jobs[i].counter = counter
            jobs[i].len = <uint32_t>(len(text) if sealing else len(text) - TAG_LEN)
        chosen.run(context.state, jobs, count, sealing)
        return [
            bytes(places[i][:jobs[i].len + (TAG_LEN if sealing else 0)]) if jobs[i].result == WH_OK else None
            for i in range(count)
        ]
    finally:
        aead_context_free(&context)
        free(jobs)
