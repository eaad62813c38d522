"""Extern declarations of libsodium, nothing else."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from "sodium.h" nogil:
    int sodium_init()
    void* sodium_malloc(size_t size)
    void sodium_free(void* pointer)
    int sodium_mprotect_readonly(void* pointer)
    int sodium_mprotect_readwrite(void* pointer)
    int sodium_mlock(void* address, size_t n)
    int sodium_munlock(void* address, size_t n)
    void sodium_memzero(void* pointer, size_t n)
    int sodium_memcmp(const void* a, const void* b, size_t n)
    int sodium_is_zero(const uint8_t* n, size_t size)
    void sodium_increment(uint8_t* n, size_t size)

    void randombytes_buf(void* out, size_t n)
    uint32_t randombytes_uniform(uint32_t upper_bound)

    int crypto_scalarmult(uint8_t* q, const uint8_t* n, const uint8_t* p)
    int crypto_scalarmult_base(uint8_t* q, const uint8_t* n)

    int crypto_generichash(uint8_t* out, size_t out_len, const uint8_t* data, unsigned long long n,
                           const uint8_t* key, size_t key_len)

    int crypto_verify_16(const uint8_t* a, const uint8_t* b)
    int crypto_verify_32(const uint8_t* a, const uint8_t* b)

    int crypto_aead_chacha20poly1305_ietf_encrypt(uint8_t* c, unsigned long long* c_len, const uint8_t* m,
                                                  unsigned long long n, const uint8_t* ad, unsigned long long ad_len,
                                                  const uint8_t* secret_nonce, const uint8_t* nonce, const uint8_t* key)
    int crypto_aead_chacha20poly1305_ietf_decrypt(uint8_t* m, unsigned long long* m_len, uint8_t* secret_nonce,
                                                  const uint8_t* c, unsigned long long n, const uint8_t* ad,
                                                  unsigned long long ad_len, const uint8_t* nonce, const uint8_t* key)
    int crypto_aead_xchacha20poly1305_ietf_encrypt(uint8_t* c, unsigned long long* c_len, const uint8_t* m,
                                                   unsigned long long n, const uint8_t* ad, unsigned long long ad_len,
                                                   const uint8_t* secret_nonce, const uint8_t* nonce, const uint8_t* key)
    int crypto_aead_xchacha20poly1305_ietf_decrypt(uint8_t* m, unsigned long long* m_len, uint8_t* secret_nonce,
                                                   const uint8_t* c, unsigned long long n, const uint8_t* ad,
                                                   unsigned long long ad_len, const uint8_t* nonce, const uint8_t* key)
