"""The worker's part in relaying: CHANNEL datagrams from clients, to the other end of their channel."""

from libc.stdint cimport int64_t, uint8_t

from whcore.device cimport wh_worker
from whcore.worker cimport scratch

# data: n bytes of receive number i, datagrams of segment_len bytes, the last perhaps shorter. True: they were a
# client's CHANNEL datagrams, and are on their way or dropped and counted.
cdef bint forward_run(wh_worker* w, scratch* s, int i, uint8_t* data, size_t n, size_t segment_len, int socket,
                      int64_t now) noexcept nogil
