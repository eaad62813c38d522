"""What the threads of a device hand up to Python: events, and control datagrams."""

from whcore.device cimport wh_device
from whcore.udp cimport wh_source

cdef list take_all_events(wh_device* dev)                   # as EVENT_* in datapath.pyi
cdef list take_datagrams(wh_device* dev, int limit)         # of ControlDatagram
# source: that of a ControlDatagram. Raises ValueError.
cdef wh_source source_of(bytes source) except *
cdef object source_bytes(const wh_source* source)           # the same, or b"" where it is not known
