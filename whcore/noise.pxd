"""Noise IK handshakes over 25519, ChaCha20-Poly1305, BLAKE2s: IKpsk2 (WireGuard), IK and IKpsk0 (control).

Only the Noise parts of the messages are here (ephemeral || encrypted static || encrypted payload); headers,
indices and MACs are the callers'. Each function leaves *hs usable only on WH_OK; else the caller wipes it.
"""

from libc.stdint cimport uint8_t

cdef enum:
    NOISE_PSK_NONE = -1
    NOISE_PSK_0 = 0
    NOISE_PSK_2 = 2
    NOISE_INITIATION_OVERHEAD = 96      # ephemeral 32, static 32 + 16, payload tag 16
    NOISE_RESPONSE_OVERHEAD = 48        # ephemeral 32, payload tag 16

cdef struct noise_suite:                # protocol name and prologue, hashed once
    uint8_t chaining_key[32]
    uint8_t hash[32]
    int psk_position

cdef struct noise_handshake:
    uint8_t chaining_key[32]
    uint8_t hash[32]
    uint8_t key[32]                     # k of the CipherState; its nonce is always 0 in IK
    uint8_t ephemeral_secret[32]
    uint8_t remote_ephemeral[32]
    uint8_t remote_static[32]

# name: the Noise protocol name (hashed when over 32 bytes); prologue: any length.
cdef void noise_suite_init(noise_suite* suite, const char* name, const uint8_t* prologue, size_t n,
                           int psk_position) noexcept nogil
# static_static: DH(s, rs) precomputed, 32 bytes. ephemeral_secret: 32 fresh random bytes. psk: 32 bytes or
# NULL (required for NOISE_PSK_0). out: n + NOISE_INITIATION_OVERHEAD. WH_OK or WH_E_KEY.
cdef int noise_write_initiation(noise_handshake* hs, const noise_suite* suite, const uint8_t* local_public,
                                const uint8_t* remote_static, const uint8_t* static_static,
                                const uint8_t* ephemeral_secret, const uint8_t* psk,
                                const uint8_t* payload, size_t n, uint8_t* out) noexcept nogil
# First half: up to `es, s`; hs.remote_static is then known, and may be judged before more is computed.
# message: ephemeral || encrypted static, 80 bytes. WH_OK, WH_E_KEY or WH_E_AUTH.
cdef int noise_read_initiation_static(noise_handshake* hs, const noise_suite* suite,
                                      const uint8_t* local_secret, const uint8_t* local_public,
                                      const uint8_t* psk, const uint8_t* message) noexcept nogil
# Second half: `ss` and the payload. sealed: n bytes with the tag; payload: n - 16 bytes. WH_OK, WH_E_AUTH.
cdef int noise_read_initiation_payload(noise_handshake* hs, const uint8_t* static_static,
                                       const uint8_t* sealed, size_t n, uint8_t* payload) noexcept nogil
# psk: 32 bytes, used with NOISE_PSK_2 (zeros where none is configured), else ignored.
# out: n + NOISE_RESPONSE_OVERHEAD. WH_OK or WH_E_KEY.
cdef int noise_write_response(noise_handshake* hs, const noise_suite* suite,
                              const uint8_t* ephemeral_secret, const uint8_t* psk,
                              const uint8_t* payload, size_t n, uint8_t* out) noexcept nogil
# message: n >= 48 bytes; payload: n - 48 bytes. Leaves *hs unchanged on failure (the next response may be the
# right one). WH_OK, WH_E_LENGTH, WH_E_KEY, WH_E_AUTH.
cdef int noise_read_response(noise_handshake* hs, const noise_suite* suite, const uint8_t* local_secret,
                             const uint8_t* psk, const uint8_t* message, size_t n,
                             uint8_t* payload) noexcept nogil
# Split(): first is the initiator's sending key, second the responder's. Wipes *hs: take hs.hash (the
# handshake hash) before.
cdef void noise_split(noise_handshake* hs, uint8_t* first, uint8_t* second) noexcept nogil
cdef void noise_wipe(noise_handshake* hs) noexcept nogil
# 12 bytes TAI64N of Unix time in ns (before 1970: of 1970).
cdef void tai64n_exact(uint8_t* out, long long unix_ns) noexcept nogil
# The same, whitened to 2^24 ns as WireGuard does.
cdef void tai64n(uint8_t* out, long long unix_ns) noexcept nogil
