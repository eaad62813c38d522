/* ChaCha20-Poly1305 by Intel's IPsec-MB library (libipsec-mb), which computes it with AVX2 or AVX-512.
 *
 * It is compiled where the library's header is, and loaded at run time where the library is; elsewhere nothing here
 * works, and says so. Major versions have structures of their own (2 made IMB_JOB longer), so what is loaded is of the
 * header's. A wh_mb belongs to one thread. */
#ifndef WH_IPSEC_MB_H
#define WH_IPSEC_MB_H

#include "aead_job.h"

#include <stdlib.h>
#include <string.h>

#define WH_MB_UNDONE 1 /* a job's result: the engine has not touched it */

/* What wh_mb_load() finds. */
enum wh_mb_found { WH_MB_LOADED, WH_MB_NOT_COMPILED, WH_MB_NO_LIBRARY, WH_MB_OTHER_VERSION };

#ifdef __x86_64__
#if __has_include(<intel-ipsec-mb.h>)
#include <intel-ipsec-mb.h>
#if IMB_VERSION_NUM >> 16 == 1
#define WH_MB_LIBRARY "libIPSec_MB.so.1"
#elif IMB_VERSION_NUM >> 16 == 2
#define WH_MB_LIBRARY "libIPSec_MB.so.2"
#endif
#endif
#endif

#ifdef WH_MB_LIBRARY

#include <dlfcn.h>
#include <sodium.h>

struct wh_mb {
	IMB_MGR *manager;
	unsigned next;
	/* What jobs under way point to. The library holds no more than IMB_MAX_JOBS, and ends them in order. */
	uint8_t nonces[IMB_MAX_JOBS][12];
	uint8_t tags[IMB_MAX_JOBS][16];
};

static struct {
	const char *(*version)(void);
	IMB_MGR *(*alloc)(uint64_t flags);
	void (*free)(IMB_MGR *manager);
	void (*init)(IMB_MGR *manager, IMB_ARCH *arch);
	int (*error)(IMB_MGR *manager);
} wh_mb_library;

/* The library must be here, have all that is called, and not be older than its header. Call it once, before all else. */
static inline enum wh_mb_found wh_mb_load(void)
{
	unsigned (*version)(void);
	void *library = dlopen(WH_MB_LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		return WH_MB_NO_LIBRARY;
	*(void **)&version = dlsym(library, "imb_get_version");
	*(void **)&wh_mb_library.version = dlsym(library, "imb_get_version_str");
	*(void **)&wh_mb_library.alloc = dlsym(library, "alloc_mb_mgr");
	*(void **)&wh_mb_library.free = dlsym(library, "free_mb_mgr");
	*(void **)&wh_mb_library.init = dlsym(library, "init_mb_mgr_auto");
	*(void **)&wh_mb_library.error = dlsym(library, "imb_get_errno");
	if (version != NULL && wh_mb_library.version != NULL && wh_mb_library.alloc != NULL && wh_mb_library.free != NULL
	    && wh_mb_library.init != NULL && wh_mb_library.error != NULL && version() >> 16 == IMB_VERSION_NUM >> 16
	    && version() >= IMB_VERSION_NUM)
		return WH_MB_LOADED;
	dlclose(library);
	return WH_MB_OTHER_VERSION;
}

/* Of the library that is loaded. */
static inline const char *wh_mb_version(void)
{
	return wh_mb_library.version();
}

static inline void wh_mb_free(void *state)
{
	struct wh_mb *mb = (struct wh_mb *)state;

	if (mb == NULL)
		return;
	if (mb->manager != NULL)
		wh_mb_library.free(mb->manager);
	sodium_memzero(mb, sizeof(*mb));
	free(mb);
}

/* NULL where there is no memory, or where the processor has no AVX2: then the library is no faster. */
static inline void *wh_mb_new(void)
{
	struct wh_mb *mb = (struct wh_mb *)calloc(1, sizeof(*mb));
	IMB_ARCH arch;

	if (mb == NULL)
		return NULL;
	mb->manager = wh_mb_library.alloc(0);
	if (mb->manager != NULL) {
		wh_mb_library.init(mb->manager, &arch);
		if (wh_mb_library.error(mb->manager) == 0 && (mb->manager->features & IMB_FEATURE_AVX2))
			return mb;
	}
	wh_mb_free(mb);
	return NULL;
}

static inline void wh_mb_ended(IMB_JOB *ended, int sealing, int bad_tag)
{
	struct aead_job *job = (struct aead_job *)ended->user_data;

	if (ended->status != IMB_STATUS_COMPLETED)
		return;
	if (sealing || crypto_verify_16((const uint8_t *)ended->auth_tag_output, job->src + job->len) == 0) {
		job->result = 0;
	} else {
		memset(job->dst, 0, job->len);
		job->result = bad_tag;
	}
}

/* bad_tag: the result of a job whose tag is wrong. What the library does not take has WH_MB_UNDONE afterwards. */
static inline void wh_mb_run(void *state, struct aead_job *jobs, size_t n, int sealing, int bad_tag)
{
	struct wh_mb *mb = (struct wh_mb *)state;
	IMB_JOB *job, *ended;
	unsigned slot;
	size_t i;
	int k;

	for (i = 0; i < n; i++) {
		jobs[i].result = WH_MB_UNDONE;
		if (jobs[i].len == 0)
			continue;
		slot = mb->next++ % IMB_MAX_JOBS;
		for (k = 0; k < 8; k++)
			mb->nonces[slot][4 + k] = (uint8_t)(jobs[i].counter >> (8 * k));
		job = IMB_GET_NEXT_JOB(mb->manager);
		job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
		job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
		job->cipher_direction = sealing ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
		job->chain_order = sealing ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
		job->enc_keys = job->dec_keys = jobs[i].key;
		job->key_len_in_bytes = 32;
		job->iv = mb->nonces[slot];
		job->iv_len_in_bytes = 12;
		job->u.CHACHA20_POLY1305.aad = mb->nonces[slot]; /* an address; no byte of it is read */
		job->u.CHACHA20_POLY1305.aad_len_in_bytes = 0;
		job->src = jobs[i].src;
		job->dst = jobs[i].dst;
		job->cipher_start_src_offset_in_bytes = job->hash_start_src_offset_in_bytes = 0;
		job->msg_len_to_cipher_in_bytes = job->msg_len_to_hash_in_bytes = jobs[i].len;
		job->auth_tag_output = sealing ? jobs[i].dst + jobs[i].len : mb->tags[slot];
		job->auth_tag_output_len_in_bytes = 16;
		job->user_data = &jobs[i];
		for (ended = IMB_SUBMIT_JOB(mb->manager); ended != NULL; ended = IMB_GET_COMPLETED_JOB(mb->manager))
			wh_mb_ended(ended, sealing, bad_tag);
	}
	while ((ended = IMB_FLUSH_JOB(mb->manager)) != NULL)
		wh_mb_ended(ended, sealing, bad_tag);
}

#else

static inline enum wh_mb_found wh_mb_load(void)
{
	return WH_MB_NOT_COMPILED;
}

static inline const char *wh_mb_version(void)
{
	return "";
}

static inline void *wh_mb_new(void)
{
	return NULL;
}

static inline void wh_mb_free(void *state)
{
	(void)state;
}

static inline void wh_mb_run(void *state, struct aead_job *jobs, size_t n, int sealing, int bad_tag)
{
	(void)state, (void)jobs, (void)n, (void)sealing, (void)bad_tag;
}

#endif
#endif
