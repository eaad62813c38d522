"""The search for a key with enough workbits."""

from libc.stdint cimport uint8_t

# secret: 32 bytes, gets a clamped key with at least `workbit` workbits in `namespace`. What SecretKey.search
# says of threads, progress and errors holds here.
cdef int search_on_threads(uint8_t* secret, int workbit, bytes namespace, int threads, progress) except -1
