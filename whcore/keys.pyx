"""Secret keys that never become Python bytes, and what can be computed from public ones.

Temporaries that held secret bytes are zeroed before a function returns.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.errno cimport EINTR, errno
from libc.string cimport memcmp, memcpy
from posix.unistd cimport read, write

from whcore.bits cimport leading_zero_bits
from whcore.errors cimport WH_E_KEY, WH_OK
from whcore.keysearch cimport search_on_threads
from whcore.keytext cimport KEYTEXT_WG_LEN, keytext_decode, keytext_encode_wg
from whcore.sodium cimport (
    crypto_generichash_final,
    crypto_generichash_init,
    crypto_generichash_state,
    crypto_generichash_update,
    crypto_scalarmult,
    crypto_scalarmult_base,
    randombytes_buf,
    sodium_free,
    sodium_init,
    sodium_is_zero,
    sodium_malloc,
    sodium_memzero,
    sodium_mprotect_readonly,
)
from whcore.xeddsa cimport xeddsa_sign, xeddsa_verify

from whcore.errors import InvalidKey, SystemFailure
from whcore.keytext import check_ascii, decode_key, encode_key, encode_key_wg
from whcore.orchid import orchid, orchid_v1

if sodium_init() < 0:
    raise ImportError("libsodium did not initialise")

cdef enum:
    KEY_LEN = 32
    KEY_BITS = 256
    HASH_LEN = 32               # BLAKE2b-256
    SIGNATURE_LEN = 64
    NOISE_LEN = 64              # randomness of an XEdDSA signature
    READ_MAX = 4096             # bytes of text that read_fd takes: far more white space than a key file has
    MARK_LEN = 3
    LOW_ORDER_COUNT = 5

cdef const char* BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # U+FEFF in UTF-8

# The canonical u of the points of low order on the curve and its twist: 0, 1, p - 1 and two of order 8.
cdef const uint8_t* LOW_ORDER_POINTS = <const uint8_t*>(
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
    b"\xe0\xeb\x7a\x7c\x3b\x41\xb8\xae\x16\x56\xe3\xfa\xf1\x9f\xc4\x6a"
    b"\xda\x09\x8d\xeb\x9c\x32\xb1\xfd\x86\x62\x05\x16\x5f\x49\xb8\x00"
    b"\x5f\x9c\x95\xbc\xa3\x50\x8c\x24\xb1\xd0\xb1\x55\x9c\x83\xef\x5b"
    b"\x04\x44\x5c\xc4\x58\x1c\x8e\x86\xd8\x22\x4e\xdd\xd0\x9f\x11\x57"
)


cdef bint is_canonical(const uint8_t* u) noexcept nogil:
    """Whether u, little-endian and with its bit 255, is below p = 2^255 - 19."""
    cdef int i
    if u[31] != 0x7F:
        return u[31] < 0x7F
    for i in range(1, 31):
        if u[i] != 0xFF:
            return 1
    return u[0] < 0xED


cdef bint has_low_order(const uint8_t* u) noexcept nogil:
    cdef int i
    for i in range(LOW_ORDER_COUNT):
        if memcmp(u, LOW_ORDER_POINTS + KEY_LEN * i, KEY_LEN) == 0:
            return 1
    return 0


cdef int check_public_key_bytes(const uint8_t* u) noexcept nogil:
    """WH_OK, or WH_E_KEY where u >= p (bit 255 included) or the point has low order."""
    return WH_OK if is_canonical(u) and not has_low_order(u) else WH_E_KEY


cdef int x25519(uint8_t* out, const uint8_t* secret, const uint8_t* public) noexcept nogil:
    """X25519 (RFC 7748, 5) with the result checked: WH_OK, or WH_E_KEY for zeros. out: 32 bytes."""
    return WH_OK if crypto_scalarmult(out, secret, public) == 0 else WH_E_KEY


cdef int workbit_of(const uint8_t* public, const uint8_t* namespace, size_t n) noexcept nogil:
    """Leading zero bits of BLAKE2b-256(key || namespace), 0..256."""
    cdef crypto_generichash_state state
    cdef uint8_t digest[HASH_LEN]
    crypto_generichash_init(&state, NULL, 0, HASH_LEN)
    crypto_generichash_update(&state, public, KEY_LEN)
    crypto_generichash_update(&state, namespace, n)
    crypto_generichash_final(&state, digest, HASH_LEN)
    return leading_zero_bits(digest, HASH_LEN)


cdef void* guarded(size_t n) except NULL:
    """n bytes between guard pages, locked into memory if the limit allows. sodium_free zeroes them."""
    cdef void* memory = sodium_malloc(n)
    if memory == NULL:
        raise MemoryError("no guarded memory for a key")
    return memory


cdef SecretKey new_secret_key():
    """An object with memory for a key, to be filled and given to adopt()."""
    cdef SecretKey self = SecretKey.__new__(SecretKey)
    self.key = <uint8_t*>guarded(KEY_LEN)
    return self


cdef SecretKey adopt(SecretKey self):
    """Compute the public key of what was filled in, and make it read-only. Raises InvalidKey for zeros.

    The bytes stay as they came, since they may be a preshared key: X25519 and XEdDSA clamp for themselves.
    """
    cdef uint8_t public_key[KEY_LEN]
    if sodium_is_zero(self.key, KEY_LEN):
        raise InvalidKey("a secret key of zeros is no secret")
    crypto_scalarmult_base(public_key, self.key)
    self.public_key = (<const char*>public_key)[:KEY_LEN]
    sodium_mprotect_readonly(self.key)
    return self


cdef SecretKey secret_key_of(const uint8_t* raw):
    """A key object of 32 secret bytes in the caller's locked memory."""
    cdef SecretKey self = new_secret_key()
    memcpy(self.key, raw, KEY_LEN)
    return adopt(self)


cdef size_t read_all(int fd, char* buffer, size_t room) except? 0:
    """Read up to the end of file or room bytes. Raises OSError, and what a signal handler raises."""
    cdef size_t used = 0
    cdef ssize_t got
    while used < room:
        with nogil:
            got = read(fd, buffer + used, room - used)
        if got == 0:
            break
        if got > 0:
            used += <size_t>got
        elif errno == EINTR:
            PyErr_CheckSignals()
        else:
            PyErr_SetFromErrno(OSError)
    return used


cdef int write_all(int fd, const char* data, size_t n) except -1:
    """Write n bytes. Raises OSError, and what a signal handler raises."""
    cdef ssize_t written
    while n:
        with nogil:
            written = write(fd, data, n)
        if written >= 0:
            data += written
            n -= <size_t>written
        elif errno == EINTR:
            PyErr_CheckSignals()
        else:
            PyErr_SetFromErrno(OSError)
    return 0


cdef inline bint is_space(char c) noexcept:
    return c == c" " or c"\t" <= c <= c"\r"


@cython.final
cdef class SecretKey:
    """A Curve25519 secret key in sodium_malloc memory, whose whole life this object owns.

    Made by generate, search, read_fd and from_text only. repr is redacted; pickling and copying raise
    TypeError, and nothing but write_fd gives the key out. close() zeroes and frees it, may be called twice,
    and must not be called while another thread uses the key; any use afterwards raises SystemFailure.
    public_key outlives it.
    """

    def __cinit__(self):
        self.key = NULL
        self.public_key = b""

    def __init__(self):
        raise TypeError("use SecretKey.generate, search, read_fd or from_text")

    def __dealloc__(self):
        sodium_free(self.key)

    def __repr__(self):
        return f"<SecretKey of {encode_key(self.public_key)}>"

    def __reduce_ex__(self, protocol):
        raise TypeError("a SecretKey cannot be pickled or copied")

    cdef int check_open(self) except -1:
        """Raises SystemFailure once the key is closed."""
        if self.key == NULL:
            raise SystemFailure("the secret key is closed")
        return 0

    @staticmethod
    def generate():
        """A fresh random key, clamped as `wg genkey` does."""
        cdef SecretKey self = new_secret_key()
        randombytes_buf(self.key, KEY_LEN)
        self.key[0] &= 248
        self.key[31] = (self.key[31] & 127) | 64
        return adopt(self)

    @staticmethod
    def search(int workbit, bytes namespace not None, *, int threads=0, progress=None):
        """A key with at least `workbit` workbits in `namespace`. threads 0: all cores this process may use.

        progress(keys tried, seconds) is called about four times a second; a true answer cancels (raises
        InterruptedError), and so does a signal handler that raises. Raises ValueError for a workbit outside
        0..256.
        """
        cdef SecretKey self = new_secret_key()
        if not 0 <= workbit <= 8 * HASH_LEN:
            raise ValueError("workbit is 0 to 256")
        search_on_threads(self.key, workbit, namespace, threads, progress)
        return adopt(self)

    @staticmethod
    def read_fd(int fd):
        """Read one key as base64 text (43 or 44 characters, either alphabet, white space around it, the byte
        order mark of an editor in front) up to end of file.

        Raises InvalidKey (also for over 4,096 bytes) and OSError. The fd is not closed.
        """
        cdef SecretKey self = new_secret_key()
        cdef char* buffer = <char*>guarded(READ_MAX + 1)
        cdef size_t start = 0, end
        try:
            end = read_all(fd, buffer, READ_MAX + 1)
            if end > READ_MAX:
                raise InvalidKey(f"over {READ_MAX} bytes are not a key", hint="is this the right file?")
            if end >= MARK_LEN and memcmp(buffer, BYTE_ORDER_MARK, MARK_LEN) == 0:
                start = MARK_LEN
            while start < end and is_space(buffer[start]):
                start += 1
            while start < end and is_space(buffer[end - 1]):
                end -= 1
            keytext_decode(self.key, buffer + start, end - start)
        finally:
            sodium_free(buffer)
        return adopt(self)

    @staticmethod
    def from_text(str text not None):
        """For secrets that are text already (invitations, network secrets). Raises InvalidKey."""
        cdef SecretKey self = new_secret_key()
        cdef Py_ssize_t n
        cdef const char* ascii_text
        if not text.isascii():
            check_ascii(text)
        ascii_text = PyUnicode_AsUTF8AndSize(text, &n)
        keytext_decode(self.key, ascii_text, <size_t>n)
        return adopt(self)

    def write_fd(self, int fd, *, bint newline=True):
        """Write the key as 44 characters of standard base64 (and a newline). Raises OSError."""
        cdef char* text
        self.check_open()
        text = <char*>guarded(KEYTEXT_WG_LEN + 1)
        try:
            keytext_encode_wg(text, self.key)
            text[KEYTEXT_WG_LEN] = c"\n"
            write_all(fd, text, KEYTEXT_WG_LEN + newline)
        finally:
            sodium_free(text)

    def derive_public(self):
        """The public key, 32 bytes, computed anew. Raises SystemFailure once closed."""
        cdef uint8_t public_key[KEY_LEN]
        self.check_open()
        crypto_scalarmult_base(public_key, self.key)
        return (<const char*>public_key)[:KEY_LEN]

    def sign(self, bytes message not None):
        """XEdDSA signature, 64 bytes (docs/protocol.md section 4)."""
        cdef uint8_t signature[SIGNATURE_LEN]
        cdef uint8_t noise[NOISE_LEN]
        self.check_open()
        randombytes_buf(noise, NOISE_LEN)
        xeddsa_sign(signature, self.key, message, len(message), noise)
        sodium_memzero(noise, NOISE_LEN)
        return (<const char*>signature)[:SIGNATURE_LEN]

    def close(self):
        """Zero and free the key. Closing again does nothing."""
        sodium_free(self.key)
        self.key = NULL


def verify(bytes public_key not None, bytes message not None, bytes signature not None):
    """Check an XEdDSA signature. Malformed input is False, never an exception."""
    if len(public_key) != KEY_LEN or len(signature) != SIGNATURE_LEN:
        return False
    if check_public_key_bytes(public_key) != WH_OK:
        return False
    return xeddsa_verify(public_key, message, len(message), signature) == WH_OK


cdef int check_length(bytes key) except -1:
    if len(key) != KEY_LEN:
        raise InvalidKey(f"a key is {KEY_LEN} bytes, not {len(key)}")
    return 0


def check_public_key(bytes key not None):
    """Raises InvalidKey for a wrong length, u >= p, or a point of low order."""
    check_length(key)
    if not is_canonical(key):
        raise InvalidKey("the public key is not below 2^255 - 19", hint="was it mistyped?")
    if has_low_order(key):
        raise InvalidKey("the public key is a point of low order", hint="nobody can own such a key")


def workbit(bytes key not None, bytes namespace not None):
    """Leading zero bits of BLAKE2b-256(key || namespace), 0 to 256. Raises InvalidKey for a wrong length."""
    check_length(key)
    return workbit_of(key, namespace, len(namespace))


def bucket_index(bytes a not None, bytes b not None):
    """1 + the length of the common prefix in bits of two 32-byte keys, at most 256 (the original's `bid`)."""
    cdef uint8_t distance[KEY_LEN]
    cdef int i
    check_length(a)
    check_length(b)
    for i in range(KEY_LEN):
        distance[i] = a[i] ^ b[i]
    return min(1 + leading_zero_bits(distance, KEY_LEN), KEY_BITS)
