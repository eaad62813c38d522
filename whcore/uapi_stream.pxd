"""Lines of the configuration protocol, read and written in locked memory (uapi_stream.pyx)."""

from libc.stdint cimport uint8_t

cdef class Lines:
    cdef int fd
    cdef char* buffer
    cdef size_t used        # bytes read
    cdef size_t start       # of the line that comes next

    # Wait until next() has a line. False: the stream ended, failed, timed out, or has a line that is too long.
    cdef bint fill(self) except -1
    # A line that was read, without its end; NULL: none. Valid until fill().
    cdef char* next(self, size_t* n) noexcept nogil

cdef class Answer:
    cdef char* text
    cdef size_t used
    cdef size_t room

    cdef int append(self, const char* data, size_t n) except -1
    cdef int add(self, bytes line) except -1
    cdef int add_hex(self, bytes name, const uint8_t* key) except -1
    cdef int send(self, int fd) except -1

cdef bint unhex(uint8_t* out, const char* text, size_t n) noexcept nogil
