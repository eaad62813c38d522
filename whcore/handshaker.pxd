"""The thread of handshakes and timers."""

from libc.stdint cimport int64_t

from whcore.device cimport wh_device, wh_peer

cdef int handshaker_init(wh_device* dev) noexcept nogil     # WH_OK or WH_E_MEMORY
cdef int handshaker_start(wh_device* dev) noexcept nogil    # 0 or an errno
cdef void handshaker_free(wh_device* dev) noexcept nogil    # after it was joined
# Under control_lock: start a handshake now where a path is known. force: even within REKEY_TIMEOUT of the last one.
cdef void peer_initiate(wh_device* dev, wh_peer* peer, bint force, int64_t now) noexcept nogil
