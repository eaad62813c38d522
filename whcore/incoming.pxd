"""From the peers to the TUN."""

from whcore.device cimport wh_worker

# One burst: up to RECEIVES datagrams of a socket, each of them perhaps many by GRO.
cdef void incoming(wh_worker* w, int socket) noexcept nogil
