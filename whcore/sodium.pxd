"""Extern declarations of libsodium, nothing else."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from "sodium.h" nogil:
    int sodium_init()
    const char* sodium_version_string()
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
    uint32_t randombytes_random()
    uint32_t randombytes_uniform(uint32_t upper_bound)

    int crypto_scalarmult(uint8_t* q, const uint8_t* n, const uint8_t* p)
    int crypto_scalarmult_base(uint8_t* q, const uint8_t* n)

    int crypto_generichash(uint8_t* out, size_t out_len, const uint8_t* data, unsigned long long n,
        const uint8_t* key, size_t key_len)

    int crypto_verify_16(const uint8_t* a, const uint8_t* b)
    int crypto_verify_32(const uint8_t* a, const uint8_t* b)

    int crypto_aead_chacha20poly1305_ietf_encrypt(uint8_t* c, unsigned long long* c_len, const uint8_t* m,
        unsigned long long n, const uint8_t* ad, unsigned long long ad_len, const uint8_t* secret_nonce,
        const uint8_t* nonce, const uint8_t* key)
    int crypto_aead_chacha20poly1305_ietf_decrypt(uint8_t* m, unsigned long long* m_len,
        uint8_t* secret_nonce, const uint8_t* c, unsigned long long n, const uint8_t* ad,
        unsigned long long ad_len, const uint8_t* nonce, const uint8_t* key)
    int crypto_aead_xchacha20poly1305_ietf_encrypt(uint8_t* c, unsigned long long* c_len, const uint8_t* m,
        unsigned long long n, const uint8_t* ad, unsigned long long ad_len, const uint8_t* secret_nonce,
        const uint8_t* nonce, const uint8_t* key)
    int crypto_aead_xchacha20poly1305_ietf_decrypt(uint8_t* m, unsigned long long* m_len,
        uint8_t* secret_nonce, const uint8_t* c, unsigned long long n, const uint8_t* ad,
        unsigned long long ad_len, const uint8_t* nonce, const uint8_t* key)

    ctypedef struct crypto_generichash_state:
        pass

    int crypto_generichash_init(crypto_generichash_state* state, const uint8_t* key, size_t key_len,
        size_t out_len)
    int crypto_generichash_update(crypto_generichash_state* state, const uint8_t* data, unsigned long long n)
    int crypto_generichash_final(crypto_generichash_state* state, uint8_t* out, size_t out_len)

    ctypedef struct crypto_hash_sha256_state:
        pass

    int crypto_hash_sha256_init(crypto_hash_sha256_state* state)
    int crypto_hash_sha256_update(crypto_hash_sha256_state* state, const uint8_t* data, unsigned long long n)
    int crypto_hash_sha256_final(crypto_hash_sha256_state* state, uint8_t* out)

    ctypedef struct crypto_hash_sha512_state:
        pass

    int crypto_hash_sha512_init(crypto_hash_sha512_state* state)
    int crypto_hash_sha512_update(crypto_hash_sha512_state* state, const uint8_t* data, unsigned long long n)
    int crypto_hash_sha512_final(crypto_hash_sha512_state* state, uint8_t* out)

    int crypto_core_ed25519_add(uint8_t* r, const uint8_t* p, const uint8_t* q)
    int crypto_scalarmult_ed25519_base_noclamp(uint8_t* q, const uint8_t* n)
    void crypto_core_ed25519_scalar_reduce(uint8_t* r, const uint8_t* s)
    void crypto_core_ed25519_scalar_negate(uint8_t* neg, const uint8_t* s)
    void crypto_core_ed25519_scalar_mul(uint8_t* z, const uint8_t* x, const uint8_t* y)
    void crypto_core_ed25519_scalar_add(uint8_t* z, const uint8_t* x, const uint8_t* y)
    int crypto_sign_ed25519_verify_detached(const uint8_t* signature, const uint8_t* m, unsigned long long n,
        const uint8_t* public_key)

    enum:
        sodium_base64_VARIANT_ORIGINAL
        sodium_base64_VARIANT_ORIGINAL_NO_PADDING
        sodium_base64_VARIANT_URLSAFE_NO_PADDING

    char* sodium_bin2base64(char* text, size_t text_max, const uint8_t* data, size_t n, int variant)
    int sodium_base642bin(uint8_t* data, size_t data_max, const char* text, size_t n, const char* ignore,
        size_t* data_len, const char** end, int variant)
