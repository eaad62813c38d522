/* The BLAKE2s compression function F (RFC 7693, 3.2).

   In C because its speed comes from ten unrolled rounds with constant message indices, which only the
   preprocessor promises. Everything around it is in blake2s.pyx. */

#ifndef WH_BLAKE2S_COMPRESS_H
#define WH_BLAKE2S_COMPRESS_H

#include <stdint.h>

/* RFC 7693, 2.6 */
static const uint32_t wh_blake2s_iv[8] = {
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
};

static inline uint32_t wh_rotr32(uint32_t word, int bits)
{
    return (word >> bits) | (word << (32 - bits));
}

static inline uint32_t wh_load32_le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void wh_store32_le(uint8_t *p, uint32_t word)
{
    p[0] = (uint8_t)word;
    p[1] = (uint8_t)(word >> 8);
    p[2] = (uint8_t)(word >> 16);
    p[3] = (uint8_t)(word >> 24);
}

/* The mixing function (3.1); x and y are message words. */
#define WH_G(a, b, c, d, x, y)                  \
    do {                                        \
        v[a] += v[b] + m[x];                    \
        v[d] = wh_rotr32(v[d] ^ v[a], 16);      \
        v[c] += v[d];                           \
        v[b] = wh_rotr32(v[b] ^ v[c], 12);      \
        v[a] += v[b] + m[y];                    \
        v[d] = wh_rotr32(v[d] ^ v[a], 8);       \
        v[c] += v[d];                           \
        v[b] = wh_rotr32(v[b] ^ v[c], 7);       \
    } while (0)

#define WH_ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15) \
    do {                                        \
        WH_G(0, 4, 8, 12, s0, s1);              \
        WH_G(1, 5, 9, 13, s2, s3);              \
        WH_G(2, 6, 10, 14, s4, s5);             \
        WH_G(3, 7, 11, 15, s6, s7);             \
        WH_G(0, 5, 10, 15, s8, s9);             \
        WH_G(1, 6, 11, 12, s10, s11);           \
        WH_G(2, 7, 8, 13, s12, s13);            \
        WH_G(3, 4, 9, 14, s14, s15);            \
    } while (0)

/* h: chaining value, updated. t: bytes hashed, with this block. last: all ones for the last block, else 0. */
static inline void wh_blake2s_compress(uint32_t h[8], const uint8_t block[64], uint64_t t, uint32_t last)
{
    uint32_t m[16], v[16];
    int i;

    for (i = 0; i < 16; i++)
        m[i] = wh_load32_le(block + 4 * i);
    for (i = 0; i < 8; i++) {
        v[i] = h[i];
        v[i + 8] = wh_blake2s_iv[i];
    }
    v[12] ^= (uint32_t)t;
    v[13] ^= (uint32_t)(t >> 32);
    v[14] ^= last;

    /* The message schedule SIGMA (2.7). */
    WH_ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    WH_ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
    WH_ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
    WH_ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
    WH_ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
    WH_ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
    WH_ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
    WH_ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
    WH_ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
    WH_ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);

    for (i = 0; i < 8; i++)
        h[i] ^= v[i] ^ v[i + 8];
}

#undef WH_G
#undef WH_ROUND

#endif
