"""What the threads of a device hand up to Python: see upcalls.pxd."""

from collections import namedtuple

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from whcore cimport device
from whcore.device cimport record, ring, ring_front, ring_pop, wh_device
from whcore.kernel cimport eventfd_read, eventfd_write, wh_exchange_u32
from whcore.udp cimport wh_source

EVENT_PATH_WANTED = <int>device.EVENT_PATH_WANTED
EVENT_NEW_PATH = <int>device.EVENT_NEW_PATH
EVENT_HANDSHAKE = <int>device.EVENT_HANDSHAKE
EVENT_HANDSHAKE_FAILED = <int>device.EVENT_HANDSHAKE_FAILED
EVENT_TUN_GONE = <int>device.EVENT_TUN_GONE
EVENT_PATH_SILENT = <int>device.EVENT_PATH_SILENT

ControlDatagram = namedtuple("ControlDatagram", "socket remote data channel source", defaults=(0, b""))

cdef enum:
    SOURCE_LEN = 20             # of ControlDatagram.source: address 16, link 4


cdef list take_all_events(wh_device* dev):
    cdef uint64_t unused
    cdef int i
    found = []
    eventfd_read(dev.event_fd, &unused)
    for i in range(dev.worker_count):
        take_events(&dev.workers[i].events, found)
    take_events(&dev.timer.events, found)
    if wh_exchange_u32(&dev.tun_gone, 0):
        found.append((EVENT_TUN_GONE,))
    return found


cdef object take_events(ring* r, list found):
    cdef record* waiting = ring_front(r)
    while waiting != NULL:
        kind = <int>waiting.kind
        if waiting.kind == device.EVENT_NEW_PATH or waiting.kind == device.EVENT_PATH_SILENT:
            found.append((kind, PyBytes_FromStringAndSize(<char*>waiting.key, 32), waiting.socket,
                          PyBytes_FromStringAndSize(<char*>waiting.remote, 18), waiting.channel))
        else:
            found.append((kind, PyBytes_FromStringAndSize(<char*>waiting.key, 32)))
        ring_pop(r)
        waiting = ring_front(r)


cdef list take_datagrams(wh_device* dev, int limit):
    cdef record* waiting
    cdef int i
    found = []
    for i in range(dev.worker_count):
        while len(found) < limit:
            waiting = ring_front(&dev.workers[i].controls)
            if waiting == NULL:
                break
            found.append(ControlDatagram(waiting.socket, PyBytes_FromStringAndSize(<char*>waiting.remote, 18),
                                         PyBytes_FromStringAndSize(<char*>waiting.data, waiting.len),
                                         waiting.channel, source_bytes(&waiting.source)))
            ring_pop(&dev.workers[i].controls)
    if len(found) >= limit:
        eventfd_write(dev.event_fd, 1)
    return found


cdef object source_bytes(const wh_source* source):
    if not source.known:
        return b""
    return PyBytes_FromStringAndSize(<const char*>source.address, 16) + PyBytes_FromStringAndSize(<const char*>&source.ifindex, 4)


cdef wh_source source_of(bytes source) except *:
    cdef wh_source found
    cdef const uint8_t* raw = source
    memset(&found, 0, sizeof(found))
    if len(source) == SOURCE_LEN:
        memcpy(found.address, raw, 16)
        memcpy(&found.ifindex, raw + 16, 4)
        found.known = found.stay = 1
    elif source:
        raise ValueError("a source is what came with a control datagram")
    return found
