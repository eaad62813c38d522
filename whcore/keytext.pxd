"""Keys as base64 text, in constant time for text that is a key, so that secret ones may pass through."""

from libc.stdint cimport uint8_t

cdef enum:
    KEYTEXT_WG_LEN = 44             # characters of 32 bytes in standard base64, the last one '='

# 43 or 44 characters of either alphabet into out (32 bytes, zeroed on failure). Raises InvalidKey, whose
# message holds no part of the text.
cdef int keytext_decode(uint8_t* out, const char* text, size_t n) except -1
# text: room for KEYTEXT_WG_LEN + 1 bytes; gets the form of wg and a zero byte.
cdef void keytext_encode_wg(char* text, const uint8_t* key) noexcept nogil
