/* Arithmetic modulo p = 2^255 - 19, which libsodium has but does not export.

   For PUBLIC values only: XEdDSA verification and the points of the key search. Multiplication and addition
   happen to take constant time; powers take a time that depends on the (public) exponent.

   An element is five limbs of 51 bits, least significant first (the usual radix-2^51 form). Bounds: fe_mul,
   fe_sub and fe_from_* leave limbs below 2^51 + 2^13. fe_mul takes limbs below 2^53. fe_add does not carry: its
   result may go into fe_mul or be the first operand of fe_sub, but not be added or subtracted again. */

#ifndef WH_FIELD25519_H
#define WH_FIELD25519_H

#include <stdint.h>
#include <string.h>

#ifndef __SIZEOF_INT128__
#error "field25519.h needs a 64-bit target (unsigned __int128)"
#endif

typedef struct {
    uint64_t limb[5];
} fe25519;

#define FE_MASK (((uint64_t)1 << 51) - 1)

static inline uint64_t fe_load64_le(const uint8_t *p)
{
    uint64_t word = 0;
    int i;

    for (i = 7; i >= 0; i--)
        word = word << 8 | p[i];
    return word;
}

static inline void fe_store64_le(uint8_t *p, uint64_t word)
{
    int i;

    for (i = 0; i < 8; i++)
        p[i] = (uint8_t)(word >> (8 * i));
}

/* Little-endian, bit 255 ignored. */
static inline void fe_from_bytes(fe25519 *out, const uint8_t in[32])
{
    out->limb[0] = fe_load64_le(in) & FE_MASK;
    out->limb[1] = fe_load64_le(in + 6) >> 3 & FE_MASK;
    out->limb[2] = fe_load64_le(in + 12) >> 6 & FE_MASK;
    out->limb[3] = fe_load64_le(in + 19) >> 1 & FE_MASK;
    out->limb[4] = fe_load64_le(in + 24) >> 12 & FE_MASK;
}

static inline void fe_from_int(fe25519 *out, uint64_t small)
{
    memset(out, 0, sizeof(*out));
    out->limb[0] = small;
}

static inline void fe_carry(fe25519 *a)
{
    int i;

    for (i = 0; i < 4; i++) {
        a->limb[i + 1] += a->limb[i] >> 51;
        a->limb[i] &= FE_MASK;
    }
    a->limb[0] += 19 * (a->limb[4] >> 51);
    a->limb[4] &= FE_MASK;
}

/* The one canonical form, below p. */
static inline void fe_to_bytes(uint8_t out[32], const fe25519 *in)
{
    fe25519 a = *in;
    uint64_t over;
    int i;

    fe_carry(&a);
    fe_carry(&a);
    /* over = 1 exactly where a >= p: it is the carry out of a + 19. */
    over = (a.limb[0] + 19) >> 51;
    for (i = 1; i < 5; i++)
        over = (a.limb[i] + over) >> 51;
    a.limb[0] += 19 * over;
    for (i = 0; i < 4; i++) {
        a.limb[i + 1] += a.limb[i] >> 51;
        a.limb[i] &= FE_MASK;
    }
    a.limb[4] &= FE_MASK;

    fe_store64_le(out, a.limb[0] | a.limb[1] << 51);
    fe_store64_le(out + 8, a.limb[1] >> 13 | a.limb[2] << 38);
    fe_store64_le(out + 16, a.limb[2] >> 26 | a.limb[3] << 25);
    fe_store64_le(out + 24, a.limb[3] >> 39 | a.limb[4] << 12);
}

static inline void fe_add(fe25519 *out, const fe25519 *a, const fe25519 *b)
{
    int i;

    for (i = 0; i < 5; i++)
        out->limb[i] = a->limb[i] + b->limb[i];
}

/* a: may come from fe_add; b: may not, so that no limb of a + 2p - b goes below zero. */
static inline void fe_sub(fe25519 *out, const fe25519 *a, const fe25519 *b)
{
    int i;

    out->limb[0] = a->limb[0] + 2 * (FE_MASK - 18) - b->limb[0];
    for (i = 1; i < 5; i++)
        out->limb[i] = a->limb[i] + 2 * FE_MASK - b->limb[i];
    fe_carry(out);
}

static inline void fe_mul(fe25519 *out, const fe25519 *a, const fe25519 *b)
{
    unsigned __int128 wide[5], product;
    uint64_t carry = 0;
    int i, j;

    for (i = 0; i < 5; i++) {
        wide[i] = 0;
        for (j = 0; j < 5; j++) {
            /* 2^255 = 19: what passes the top limb comes back multiplied. */
            product = (unsigned __int128)a->limb[j] * (j <= i ? b->limb[i - j] : 19 * b->limb[i - j + 5]);
            wide[i] += product;
        }
    }
    for (i = 0; i < 5; i++) {
        wide[i] += carry;
        out->limb[i] = (uint64_t)wide[i] & FE_MASK;
        carry = (uint64_t)(wide[i] >> 51);
    }
    out->limb[0] += 19 * carry;
    out->limb[1] += out->limb[0] >> 51;
    out->limb[0] &= FE_MASK;
}

/* exponent: 32 bytes, little-endian, public. out may alias base. */
static inline void fe_pow(fe25519 *out, const fe25519 *base, const uint8_t exponent[32])
{
    fe25519 result, b = *base;
    int i;

    fe_from_int(&result, 1);
    for (i = 255; i >= 0; i--) {
        fe_mul(&result, &result, &result);
        if (exponent[i >> 3] >> (i & 7) & 1)
            fe_mul(&result, &result, &b);
    }
    *out = result;
}

/* a^(p-2) (Fermat); 0 for 0. */
static inline void fe_invert(fe25519 *out, const fe25519 *a)
{
    static const uint8_t P_MINUS_2[32] = {
        0xEB, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F,
    };

    fe_pow(out, a, P_MINUS_2);
}

#endif
