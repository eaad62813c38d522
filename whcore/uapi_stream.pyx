"""Lines of the configuration protocol. They hold secret keys as hexadecimal text, so they are read, parsed and
written in sodium_malloc memory; only the public parts of a line become Python objects."""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcpy, memmove, memset
from posix.unistd cimport read, write

from whcore.sodium cimport sodium_free, sodium_malloc, sodium_memzero

cdef enum:
    LINE_MAX = 4096             # the longest legal line has under 100
    ANSWER_ROOM = 4096


cdef class Lines:
    """Lines of one connection."""

    def __cinit__(self, int fd):
        self.fd = fd
        self.used = self.start = 0
        self.buffer = <char*>sodium_malloc(LINE_MAX)
        if self.buffer == NULL:
            raise MemoryError

    def __dealloc__(self):
        sodium_free(self.buffer)

    cdef bint fill(self) except -1:
        cdef ssize_t got
        while memchr(self.buffer + self.start, 10, self.used - self.start) == NULL:
            memmove(self.buffer, self.buffer + self.start, self.used - self.start)
            self.used -= self.start
            self.start = 0
            if self.used == LINE_MAX:
                return False
            with nogil:
                got = read(self.fd, self.buffer + self.used, LINE_MAX - self.used)
            if got < 0 and errno == EINTR:
                continue
            if got <= 0:
                return False
            self.used += got
        return True

    cdef char* next(self, size_t* n) noexcept nogil:
        cdef char* line = self.buffer + self.start
        cdef char* end = <char*>memchr(line, 10, self.used - self.start)
        if end == NULL:
            return NULL
        n[0] = end - line
        self.start += n[0] + 1
        return line


cdef class Answer:
    """Text of an answer, written when it is complete."""

    def __dealloc__(self):
        sodium_free(self.text)

    cdef int append(self, const char* data, size_t n) except -1:
        cdef char* grown
        cdef size_t room
        if self.used + n > self.room:
            room = 2 * self.room + n + ANSWER_ROOM
            grown = <char*>sodium_malloc(room)
            if grown == NULL:
                raise MemoryError
            if self.used:
                memcpy(grown, self.text, self.used)
            sodium_free(self.text)
            self.text = grown
            self.room = room
        memcpy(self.text + self.used, data, n)
        self.used += n
        return 0

    cdef int add(self, bytes line) except -1:
        return self.append(line, len(line))

    cdef int add_hex(self, bytes name, const uint8_t* key) except -1:
        """A line with 32 bytes in hexadecimal, in time that does not depend on them."""
        cdef char text[65]
        cdef int i, nibble
        for i in range(64):
            nibble = (key[i // 2] >> (4 if i % 2 == 0 else 0)) & 15
            text[i] = <char>(48 + nibble + ((9 - nibble) >> 8 & 39))
        text[64] = 10
        self.add(name)
        self.append(text, 65)
        sodium_memzero(text, 65)
        return 0

    cdef int send(self, int fd) except -1:
        """Write everything. Raises OSError, also where the reader takes longer than the socket's timeout."""
        cdef size_t sent = 0
        cdef ssize_t n
        while sent < self.used:
            with nogil:
                n = write(fd, self.text + sent, self.used - sent)
            if n < 0 and errno != EINTR:
                raise OSError(errno, "cannot answer")
            if n > 0:
                sent += n
        return 0


cdef bint unhex(uint8_t* out, const char* text, size_t n) noexcept nogil:
    """64 hexadecimal digits into 32 bytes without a branch or table look-up on their values; False if they are not."""
    cdef int i, c, digit, letter, is_digit, is_letter, bad = 0
    if n != 64:
        return False
    memset(out, 0, 32)
    for i in range(64):
        c = <uint8_t>text[i]
        digit = c ^ 48
        letter = (c & ~32) - 55
        is_digit = (digit - 10) >> 8                            # all ones where 0 <= digit < 10
        is_letter = ((9 - letter) & (letter - 16)) >> 8         # all ones where 10 <= letter < 16
        bad |= ~(is_digit | is_letter)
        out[i // 2] |= <uint8_t>(((is_digit & digit) | (is_letter & letter)) << (4 if i % 2 == 0 else 0))
    return bad == 0
