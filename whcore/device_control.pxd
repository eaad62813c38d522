"""Changes to a whole device, under the control lock; and paths as Python names them, checked without it."""

from whcore.device cimport wh_device, wh_paths
from whcore.forwarder cimport forward_place

# After the static key changed: no session, no handshake in flight.
cdef void renew_tunnels(wh_device* dev) noexcept nogil
# Free what was unlinked from the relay's channels once no worker can be on it.
cdef void settle_forwards(wh_device* dev) noexcept nogil

# wanted: one or two of (socket id, remote 18 bytes[, channel[, MTU in bytes]]). Raises ValueError.
cdef wh_paths* new_paths(wh_device* dev, object wanted) except NULL
# client: (socket id, remote 18 bytes). The place's path is the caller's until a channel takes it. Raises ValueError.
cdef int fill_place(wh_device* dev, forward_place* place, object client) except -1
