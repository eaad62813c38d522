"""The forwarder's table as Datapath changes it: see relaying.pxd."""

from collections import namedtuple

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from whcore.device cimport wh_device
from whcore.device_control cimport fill_place, settle_forwards
from whcore.errors cimport WH_E_LIMIT, WH_OK, raise_rc
from whcore.forwarder cimport (
    FORWARD_CHANNELS, FORWARD_CODES, OPENER, TARGET, forward_close, forward_expire, forward_find, forward_limit,
    forward_limits, forward_move, forward_open, forward_place, forward_set_totals, forward_status,
)
from whcore.kernel cimport pthread_mutex_lock, pthread_mutex_unlock, wh_now_ns

from whcore.errors import SystemFailure

RelayStatus = namedtuple("RelayStatus", "legs proved packets byte_counts drops silent_ns")

cdef struct ended_channels:
    uint32_t n
    uint32_t ids[FORWARD_CHANNELS][2]


cdef tuple open_channel(wh_device* dev, object opener, object target, const forward_limits* limits):
    cdef forward_place places[2]
    cdef uint32_t ids[2]
    cdef int rc
    fill_place(dev, &places[OPENER], opener)
    try:
        fill_place(dev, &places[TARGET], target)
    except BaseException:
        free(places[OPENER].path)
        raise
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        rc = forward_open(&dev.forwards, &places[OPENER], &places[TARGET], limits, wh_now_ns(), ids)
        pthread_mutex_unlock(&dev.control_lock)
    if rc != WH_OK:
        free(places[OPENER].path)
        free(places[TARGET].path)
        if rc == WH_E_LIMIT:
            raise SystemFailure("every relay channel is taken", hint="close some, or send clients to another relay")
        raise_rc(rc, "relay channel")
    return ids[OPENER], ids[TARGET]


cdef int move_leg(wh_device* dev, uint32_t leg, object client) except -1:
    cdef forward_place place
    cdef int rc
    fill_place(dev, &place, client)
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        rc = forward_move(&dev.forwards, leg, &place)
        settle_forwards(dev)
        pthread_mutex_unlock(&dev.control_lock)
    if rc != WH_OK:
        free(place.path)
        raise KeyError(leg)
    return 0


cdef int limit_channel(wh_device* dev, uint32_t leg, const forward_limits* limits) except -1:
    cdef int rc
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        rc = forward_limit(&dev.forwards, leg, limits)
        pthread_mutex_unlock(&dev.control_lock)
    if rc != WH_OK:
        raise KeyError(leg)
    return 0


cdef int close_channel(wh_device* dev, uint32_t leg) except -1:
    cdef int rc
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        rc = forward_close(&dev.forwards, leg)
        settle_forwards(dev)
        pthread_mutex_unlock(&dev.control_lock)
    if rc != WH_OK:
        raise KeyError(leg)
    return 0


cdef list expire_channels(wh_device* dev, int64_t silence_ns):
    cdef ended_channels ended
    ended.n = 0
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        forward_expire(&dev.forwards, wh_now_ns(), silence_ns, note_ended, &ended)
        settle_forwards(dev)
        pthread_mutex_unlock(&dev.control_lock)
    return [(ended.ids[i][OPENER], ended.ids[i][TARGET]) for i in range(ended.n)]


cdef void note_ended(const forward_status* status, void* context) noexcept nogil:
    cdef ended_channels* ended = <ended_channels*>context
    memcpy(ended.ids[ended.n], status.ids, sizeof(status.ids))
    ended.n += 1


cdef void limit_channels(wh_device* dev, uint64_t rate, uint32_t burst, uint64_t day_quota) noexcept:
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        forward_set_totals(&dev.forwards, rate, burst, day_quota)
        pthread_mutex_unlock(&dev.control_lock)


cdef object channel_status(wh_device* dev, uint32_t leg):
    cdef forward_status status
    cdef int64_t now
    cdef int rc
    with nogil:
        pthread_mutex_lock(&dev.control_lock)
        rc = forward_find(&dev.forwards, leg, &status)
        pthread_mutex_unlock(&dev.control_lock)
    if rc != WH_OK:
        raise KeyError(leg)
    now = wh_now_ns()
    return RelayStatus(
        (status.ids[OPENER], status.ids[TARGET]), bool(status.proved), (status.packets[OPENER], status.packets[TARGET]),
        (status.bytes[OPENER], status.bytes[TARGET]), sum(status.drops[code] for code in range(FORWARD_CODES)),
        (now - status.last_at[OPENER], now - status.last_at[TARGET]))
