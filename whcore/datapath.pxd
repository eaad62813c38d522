"""The Python handle on a data plane, for the core's own use (uapi.pyx)."""

from libc.stdint cimport uint8_t

from whcore.device cimport wh_device
from whcore.keys cimport SecretKey
from whcore.sieve cimport ControlSieve

cdef class Datapath:
    cdef wh_device* dev
    cdef readonly SecretKey secret      # a copy of our own; None: the device has no key
    cdef ControlSieve sieve
    cdef bint started

    cdef wh_device* device(self) except NULL
    cdef int put_psk(self, bytes public_key, const uint8_t* psk) except -1
