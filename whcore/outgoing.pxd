"""From the TUN to the peers."""

from whcore.device cimport wh_worker

# One burst: everything that waits in the worker's TUN queue, up to the scratch memory's limits.
cdef void outgoing(wh_worker* w) noexcept nogil
