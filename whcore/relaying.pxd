"""The forwarder's table as Datapath changes it. Raises as the methods of the same purpose in datapath.pyx say."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from whcore.device cimport wh_device
from whcore.forwarder cimport forward_limits

# opener, target, client: (socket id, remote 18 bytes). Returns the two leg ids.
cdef tuple open_channel(wh_device* dev, object opener, object target, const forward_limits* limits)
cdef int move_leg(wh_device* dev, uint32_t leg, object client) except -1
cdef int limit_channel(wh_device* dev, uint32_t leg, const forward_limits* limits) except -1
cdef int close_channel(wh_device* dev, uint32_t leg) except -1
cdef list expire_channels(wh_device* dev, int64_t silence_ns)           # pairs of leg ids
cdef void limit_channels(wh_device* dev, uint64_t rate, uint32_t burst, uint64_t day_quota) noexcept
cdef object channel_status(wh_device* dev, uint32_t leg)                # a RelayStatus
