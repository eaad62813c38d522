"""Keys as base64 text, in constant time for text that is a key, so that secret ones may pass through."""

from whcore.sodium cimport (
    sodium_base642bin,
    sodium_base64_VARIANT_ORIGINAL,
    sodium_base64_VARIANT_ORIGINAL_NO_PADDING,
    sodium_base64_VARIANT_URLSAFE_NO_PADDING,
    sodium_bin2base64,
    sodium_init,
    sodium_memzero,
)

from whcore.errors import InvalidKey

if sodium_init() < 0:
    raise ImportError("libsodium did not initialise")

cdef enum:
    KEY_LEN = 32
    KEYTEXT_LEN = 43                # characters without padding

cdef str FORMS = "a key is 43 characters as wh prints it, or 44 ending in = as wg does"


cdef bint decode_variant(uint8_t* out, const char* text, int variant, size_t* bad_at) noexcept nogil:
    """Decode KEYTEXT_LEN characters of one alphabet; else *bad_at grows to where that failed."""
    cdef size_t decoded
    cdef const char* end
    cdef int rc = sodium_base642bin(out, KEY_LEN, text, KEYTEXT_LEN, NULL, &decoded, &end, variant)
    if rc == 0 and decoded == KEY_LEN:
        return 1
    bad_at[0] = max(bad_at[0], <size_t>(end - text))
    return 0


cdef int keytext_decode(uint8_t* out, const char* text, size_t n) except -1:
    """See keytext.pxd."""
    cdef size_t bad_at = 0
    if n != KEYTEXT_LEN and not (n == KEYTEXT_WG_LEN and text[KEYTEXT_LEN] == c"="):
        raise InvalidKey(f"{n} characters are not a key", hint=FORMS)
    if (
        decode_variant(out, text, sodium_base64_VARIANT_URLSAFE_NO_PADDING, &bad_at)
        or decode_variant(out, text, sodium_base64_VARIANT_ORIGINAL_NO_PADDING, &bad_at)
    ):
        return 0
    sodium_memzero(out, KEY_LEN)
    if bad_at >= KEYTEXT_LEN:
        raise InvalidKey("the last character holds bits that no key has", hint="was it mistyped or cut off?")
    raise InvalidKey(f"character {bad_at + 1} is not base64 of either alphabet", hint=FORMS)


cdef void keytext_encode_wg(char* text, const uint8_t* key) noexcept nogil:
    """See keytext.pxd."""
    sodium_bin2base64(text, KEYTEXT_WG_LEN + 1, key, KEY_LEN, sodium_base64_VARIANT_ORIGINAL)


cdef int check_length(bytes key) except -1:
    if len(key) != KEY_LEN:
        raise InvalidKey(f"a key is {KEY_LEN} bytes, not {len(key)}")
    return 0


def encode_key(bytes key not None):
    """43 characters of URL-safe base64 without padding, the form WireHub prints. Raises InvalidKey."""
    cdef char text[KEYTEXT_LEN + 1]
    check_length(key)
    sodium_bin2base64(text, sizeof(text), key, KEY_LEN, sodium_base64_VARIANT_URLSAFE_NO_PADDING)
    return text[:KEYTEXT_LEN].decode("ascii")


def encode_key_wg(bytes key not None):
    """44 characters of standard base64, the form WireGuard prints. Raises InvalidKey for a wrong length."""
    cdef char text[KEYTEXT_WG_LEN + 1]
    check_length(key)
    keytext_encode_wg(text, key)
    return text[:KEYTEXT_WG_LEN].decode("ascii")


def check_ascii(str text not None):
    """Raises InvalidKey, which names the first character that no key has."""
    for place, character in enumerate(text, 1):
        if not character.isascii():
            why = "which no key has" if character.isprintable() else "which cannot be seen"
            raise InvalidKey(f"character {place} is U+{ord(character):04X}, {why}", hint=FORMS)


def decode_key(str text not None):
    """32 bytes from either form. Raises InvalidKey, which says what is wrong with the text."""
    cdef uint8_t key[KEY_LEN]
    if not text.isascii():
        check_ascii(text)
    encoded = text.encode("ascii")
    keytext_decode(key, encoded, len(encoded))
    return (<const char*>key)[:KEY_LEN]
