"""Changes to a device that more than one caller needs; all but new_paths and fill_place run under the control lock."""

from libc.stdint cimport int64_t, uint8_t

from whcore.device cimport wh_device, wh_paths, wh_peer
from whcore.forwarder cimport forward_place

# Take the control lock and find a peer; without one, NULL and no lock.
cdef wh_peer* lock_peer(wh_device* dev, const uint8_t* key) noexcept nogil
# After the static key changed: no session, no handshake in flight.
cdef void renew_tunnels(wh_device* dev) noexcept nogil
cdef void change_keepalive(wh_device* dev, wh_peer* peer, int64_t interval_ns) noexcept nogil
# Use fresh paths (NULL: none), and send what waited for one.
cdef void adopt_paths(wh_device* dev, wh_peer* peer, wh_paths* fresh) noexcept nogil
cdef void forget_all_sources(wh_device* dev) noexcept nogil
# Free what was unlinked from the tries, or from the relay's channels, once no worker can be on it.
cdef void settle_allowed(wh_device* dev) noexcept nogil
cdef void settle_forwards(wh_device* dev) noexcept nogil

# wanted: one or two of (socket id, remote 18 bytes[, channel[, MTU in bytes]]). Raises ValueError.
cdef wh_paths* new_paths(wh_device* dev, object wanted) except NULL
# client: (socket id, remote 18 bytes). The place's path is the caller's until a channel takes it. Raises ValueError.
cdef int fill_place(wh_device* dev, forward_place* place, object client) except -1
