"""The search for a key with enough workbits: a loop for as many threads as there are cores.

One scalar multiplication a try gives 30,000 keys/s on a core of the machine this was measured on; the 2018
WireHub did about that. Here a worker picks one random clamped secret k and walks k, k + 8, k + 16, ...: each
step adds the point 8B, and one inversion serves a whole batch of points (Montgomery's trick): 3,000,000
keys/s on the same core.

Each walk's k is fresh and at most one key of it ever leaves, so that key has all the entropy of k, and it is
an ordinary X25519 secret. Points are in extended coordinates on the Edwards curve (RFC 8032, 5.1.4).
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from whcore.bits cimport leading_zero_bits
from whcore.errors cimport WH_E_MEMORY
from whcore.field25519 cimport (
    fe25519, fe_add, fe_from_bytes, fe_from_int, fe_invert, fe_mul, fe_pow, fe_sub, fe_to_bytes,
)
from whcore.sodium cimport (
    crypto_generichash,
    crypto_scalarmult_base,
    crypto_scalarmult_ed25519_base_noclamp,
    randombytes_buf,
    sodium_free,
    sodium_init,
    sodium_malloc,
    sodium_memzero,
)

if sodium_init() < 0:
    raise ImportError("libsodium did not initialise")

cdef extern from *:
    enum:
        __ATOMIC_RELAXED
    int atomic_load_int "__atomic_load_n"(int* p, int order) nogil
    uint64_t atomic_load_u64 "__atomic_load_n"(uint64_t* p, int order) nogil
    void atomic_store_int "__atomic_store_n"(int* p, int value, int order) nogil
    void atomic_store_u64 "__atomic_store_n"(uint64_t* p, uint64_t value, int order) nogil

cdef enum:
    KEY_LEN = 32
    HASH_LEN = 32
    COFACTOR = 8                # clamped secrets are multiples of it
    BATCH = 512                 # points an inversion: 128 is 10% slower, 2,048 only 4% faster

cdef double PROGRESS_INTERVAL_S = 0.25

cdef struct search_job:         # shared by all workers
    const uint8_t* namespace
    size_t namespace_len
    int workbit                 # at least
    int stop                    # atomic: set by the first that finds, and by who cancels

cdef struct edwards_point:      # x = X/Z, y = Y/Z, xy = T/Z
    fe25519 x
    fe25519 y
    fe25519 z
    fe25519 t

cdef struct edwards_step:       # an affine point prepared for being added
    fe25519 y_plus_x
    fe25519 y_minus_x
    fe25519 xy2d

cdef struct walk:               # a worker's state; only `secret`, outside of it, is secret
    edwards_point position
    edwards_step step
    fe25519 above[BATCH]        # u = above / below for each point of the batch
    fe25519 below[BATCH]
    fe25519 products[BATCH]
    uint8_t* hash_input         # key || namespace


cdef void curve_constant(fe25519* d) noexcept nogil:
    """d = -121665 / 121666 (RFC 8032, 5.1)."""
    cdef fe25519 zero, number
    fe_from_int(&zero, 0)
    fe_from_int(&number, 121666)
    fe_invert(d, &number)
    fe_from_int(&number, 121665)
    fe_mul(d, d, &number)
    fe_sub(d, &zero, d)


cdef void square_root_of_ratio(fe25519* x, const fe25519* u, const fe25519* v) noexcept nogil:
    """x with v x^2 = u, which must exist (RFC 8032, 5.1.3)."""
    cdef uint8_t exponent[32]
    cdef uint8_t wanted[32]
    cdef uint8_t found[32]
    cdef fe25519 v3, power, root_of_minus_one
    # x = u v^3 (u v^7)^((p - 5) / 8)
    fe_mul(&v3, v, v)
    fe_mul(&v3, &v3, v)
    fe_mul(&power, &v3, &v3)
    fe_mul(&power, &power, v)
    fe_mul(&power, &power, u)
    memset(exponent, 0xFF, 32)
    exponent[0] = 0xFD
    exponent[31] = 0x0F
    fe_pow(&power, &power, exponent)
    fe_mul(x, u, &v3)
    fe_mul(x, x, &power)
    fe_mul(&power, x, x)
    fe_mul(&power, &power, v)
    fe_to_bytes(found, &power)
    fe_to_bytes(wanted, u)
    if memcmp(found, wanted, 32) != 0:
        # Then v x^2 = -u, and 2^((p - 1) / 4) is a root of -1.
        exponent[0] = 0xFB
        exponent[31] = 0x1F
        fe_from_int(&root_of_minus_one, 2)
        fe_pow(&root_of_minus_one, &root_of_minus_one, exponent)
        fe_mul(x, x, &root_of_minus_one)


cdef void point_of_scalar(edwards_point* point, const uint8_t* scalar) noexcept nogil:
    """scalar B. libsodium multiplies, in constant time; its encoded point is then decompressed."""
    cdef uint8_t encoded[32]
    cdef uint8_t x_bytes[32]
    cdef fe25519 d, zero, above, below
    crypto_scalarmult_ed25519_base_noclamp(encoded, scalar)
    fe_from_bytes(&point.y, encoded)
    fe_from_int(&point.z, 1)
    fe_from_int(&zero, 0)
    curve_constant(&d)
    # x^2 = (y^2 - 1) / (d y^2 + 1)
    fe_mul(&above, &point.y, &point.y)
    fe_mul(&below, &above, &d)
    fe_sub(&above, &above, &point.z)
    fe_add(&below, &below, &point.z)
    square_root_of_ratio(&point.x, &above, &below)
    fe_to_bytes(x_bytes, &point.x)
    if (x_bytes[0] & 1) != encoded[31] >> 7:
        fe_sub(&point.x, &zero, &point.x)
    fe_mul(&point.t, &point.x, &point.y)


cdef void step_of_scalar(edwards_step* step, uint8_t scalar) noexcept nogil:
    cdef uint8_t bytes_of_scalar[32]
    cdef edwards_point point
    cdef fe25519 d
    memset(bytes_of_scalar, 0, 32)
    bytes_of_scalar[0] = scalar
    point_of_scalar(&point, bytes_of_scalar)
    curve_constant(&d)
    fe_add(&step.y_plus_x, &point.y, &point.x)
    fe_sub(&step.y_minus_x, &point.y, &point.x)
    fe_mul(&step.xy2d, &point.t, &d)
    fe_add(&step.xy2d, &step.xy2d, &step.xy2d)


cdef inline void point_add(edwards_point* point, const edwards_step* step) noexcept nogil:
    """point += step: the complete addition of RFC 8032, 5.1.4, with Z2 = 1."""
    cdef fe25519 a, b, c, d, e, f, g, h
    fe_sub(&a, &point.y, &point.x)
    fe_mul(&a, &a, &step.y_minus_x)
    fe_add(&b, &point.y, &point.x)
    fe_mul(&b, &b, &step.y_plus_x)
    fe_mul(&c, &point.t, &step.xy2d)
    fe_add(&d, &point.z, &point.z)
    fe_sub(&e, &b, &a)
    fe_sub(&f, &d, &c)
    fe_add(&g, &d, &c)
    fe_add(&h, &b, &a)
    fe_mul(&point.x, &e, &f)
    fe_mul(&point.y, &g, &h)
    fe_mul(&point.t, &e, &h)
    fe_mul(&point.z, &f, &g)


cdef void walk_begin(walk* w, uint8_t* secret) noexcept nogil:
    """A fresh clamped secret (RFC 7748, 5) and its point."""
    randombytes_buf(secret, KEY_LEN)
    secret[0] &= 248
    secret[31] = (secret[31] & 127) | 64
    point_of_scalar(&w.position, secret)


cdef void walk_batch(walk* w) noexcept nogil:
    """Step BATCH times; above[i] then is u of the point before step i, and below is spent."""
    cdef fe25519 inverse, own
    cdef int i
    for i in range(BATCH):
        # u = (1 + y) / (1 - y)
        fe_add(&w.above[i], &w.position.z, &w.position.y)
        fe_sub(&w.below[i], &w.position.z, &w.position.y)
        point_add(&w.position, &w.step)
    w.products[0] = w.below[0]
    for i in range(1, BATCH):
        fe_mul(&w.products[i], &w.products[i - 1], &w.below[i])
    fe_invert(&inverse, &w.products[BATCH - 1])
    for i in range(BATCH - 1, 0, -1):
        fe_mul(&own, &inverse, &w.products[i - 1])
        fe_mul(&inverse, &inverse, &w.below[i])
        fe_mul(&w.above[i], &w.above[i], &own)
    fe_mul(&w.above[0], &w.above[0], &inverse)


cdef int batch_search(walk* w, const search_job* job) noexcept nogil:
    """Index of the first key in the batch with enough workbits, left in hash_input; -1 for none."""
    cdef uint8_t digest[HASH_LEN]
    cdef int i
    for i in range(BATCH):
        fe_to_bytes(w.hash_input, &w.above[i])
        crypto_generichash(digest, HASH_LEN, w.hash_input, KEY_LEN + job.namespace_len, NULL, 0)
        if leading_zero_bits(digest, HASH_LEN) >= job.workbit:
            return i
    return -1


cdef void secret_advance(uint8_t* secret, uint64_t steps) noexcept nogil:
    """secret += 8 * steps (little-endian), in constant time."""
    cdef unsigned int carry = 0
    cdef uint64_t addend = COFACTOR * steps
    cdef int i
    for i in range(KEY_LEN):
        carry += <unsigned int>secret[i] + <unsigned int>(addend & 0xFF)
        secret[i] = <uint8_t>carry
        carry >>= 8
        addend >>= 8


cdef bint secret_has_key(const uint8_t* secret, const uint8_t* public_key) noexcept nogil:
    """Whether libsodium computes the same public key: it has the last word on what the walk found."""
    cdef uint8_t computed[KEY_LEN]
    crypto_scalarmult_base(computed, secret)
    return memcmp(computed, public_key, KEY_LEN) == 0


cdef void search_stop(search_job* job) noexcept nogil:
    atomic_store_int(&job.stop, 1, __ATOMIC_RELAXED)


cdef bint walk_search(walk* w, search_job* job, uint8_t* secret, uint64_t* tried) noexcept nogil:
    """One walk: 1 when secret has become what was looked for, 0 to begin anew or because of job.stop."""
    cdef uint64_t steps = 0
    cdef int i
    walk_begin(w, secret)
    while not atomic_load_int(&job.stop, __ATOMIC_RELAXED):
        walk_batch(w)
        i = batch_search(w, job)
        atomic_store_u64(tried, tried[0] + <uint64_t>(BATCH if i < 0 else i + 1), __ATOMIC_RELAXED)
        if i >= 0:
            secret_advance(secret, steps + <uint64_t>i)
            return secret_has_key(secret, w.hash_input)
        steps += BATCH
    return 0


cdef int search_run(search_job* job, uint8_t* secret, uint64_t* tried) noexcept nogil:
    """A worker: search until something is found or job.stop is set. secret: 32 guarded bytes of its own;
    tried: its count of keys, which others read. 1: secret holds a key; 0: it is zeroed; WH_E_MEMORY."""
    cdef int found = 0
    cdef walk* w = <walk*>malloc(sizeof(walk) + KEY_LEN + job.namespace_len)
    if w == NULL:
        return WH_E_MEMORY
    w.hash_input = <uint8_t*>(w + 1)
    memcpy(w.hash_input + KEY_LEN, job.namespace, job.namespace_len)
    step_of_scalar(&w.step, COFACTOR)
    while not found and not atomic_load_int(&job.stop, __ATOMIC_RELAXED):
        found = walk_search(w, job, secret, tried)
    if found:
        search_stop(job)
    else:
        sodium_memzero(secret, KEY_LEN)
    free(w)
    return found


cdef class _Job:
    """What the workers share, alive for as long as one of them is."""

    cdef search_job shared
    cdef bytes namespace

    def __cinit__(self, int workbit, bytes namespace):
        self.namespace = namespace
        self.shared = search_job(namespace, len(namespace), workbit, 0)


cdef class _Worker:
    """One thread's share of a search: its secret, its count, its answer."""

    cdef _Job job
    cdef uint8_t* secret
    cdef uint64_t tried
    cdef int answer
    cdef object ended

    def __cinit__(self, _Job job, ended):
        self.job = job
        self.ended = ended
        self.secret = <uint8_t*>sodium_malloc(KEY_LEN)
        if self.secret == NULL:
            raise MemoryError("no guarded memory for a key")

    def __dealloc__(self):
        sodium_free(self.secret)

    def run(self):
        """What the thread runs; sets `ended` when it is over."""
        with nogil:
            self.answer = search_run(&self.job.shared, self.secret, &self.tried)
        self.ended.set()


cdef uint64_t tried_by(list workers):
    cdef uint64_t total = 0
    cdef _Worker worker
    for worker in workers:
        total += atomic_load_u64(&worker.tried, __ATOMIC_RELAXED)
    return total


cdef int take_found(uint8_t* secret, list workers) except -1:
    """Copy the first key that a worker found. Raises MemoryError where they ended without one."""
    cdef _Worker worker
    for worker in workers:
        if worker.answer == 1:
            memcpy(secret, worker.secret, KEY_LEN)
            return 0
    raise MemoryError("no memory to search for a key")


cdef int search_on_threads(uint8_t* secret, int workbit, bytes namespace, int threads, progress) except -1:
    """See keysearch.pxd. This thread only waits, so that signal handlers run; the workers hold no GIL."""
    # Imported here because `wh pubkey` loads this module too and must start fast.
    import os
    import threading
    import time

    cdef _Job job = _Job(workbit, namespace)
    ended = threading.Event()
    workers = [_Worker(job, ended) for _ in range(threads or len(os.sched_getaffinity(0)))]
    running = []
    started_at = time.monotonic()
    try:
        for worker in workers:
            thread = threading.Thread(target=worker.run, name="wh-keysearch", daemon=True)
            thread.start()
            running.append(thread)
        while not ended.wait(PROGRESS_INTERVAL_S):
            if progress is not None and progress(tried_by(workers), time.monotonic() - started_at):
                raise InterruptedError("the key search was cancelled")
    finally:
        search_stop(&job.shared)
        for thread in running:
            thread.join()
    return take_found(secret, workers)
