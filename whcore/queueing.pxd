"""What a worker gives to others: WireGuard handshakes to their thread, control datagrams to Python.

What is junk is dropped here, and in a flood whoever has proved nothing gets a cookie instead of a place in a queue:
from here, since that costs less than the place.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from whcore.device cimport wh_worker
from whcore.worker cimport scratch

cdef enum:                          # of a record in a ring of handshakes
    QUEUED_UNPROVED = 0
    QUEUED_PROVED = 1               # its mac2 is valid

# data: n bytes of receive i, which came by this socket and out of this channel (0: none).
cdef void queue_handshake(wh_worker* w, scratch* s, int i, const uint8_t* data, size_t n, uint32_t channel, int socket,
                          int64_t now) noexcept nogil
cdef void queue_control(wh_worker* w, scratch* s, int i, const uint8_t* data, size_t n, uint32_t channel, int socket,
                        int64_t now) noexcept nogil
