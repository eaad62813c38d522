/* One packet to seal or open by ChaCha20-Poly1305 (RFC 8439), as the AEAD engines get them in batches. */
#ifndef WH_AEAD_JOB_H
#define WH_AEAD_JOB_H

#include <stdint.h>

struct aead_job {
	uint8_t *dst;       /* len + 16 bytes to seal, len bytes to open; may equal src */
	const uint8_t *src; /* len bytes to seal, len + 16 to open */
	const uint8_t *key; /* 32 bytes */
	uint64_t counter;   /* the nonce is 4 zero bytes || counter, little-endian */
	uint32_t len;       /* plaintext bytes */
	int32_t result;     /* out: WH_OK or WH_E_AUTH; dst is zeroed on failure */
};

#endif
