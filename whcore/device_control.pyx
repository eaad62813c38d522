"""Changes to a device: see device_control.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from whcore.device cimport (
    KEY_BUCKETS, RETIRED_FORWARDS, index_release, reclaim, retire_keypairs, retire_later,
    wh_device, wh_path, wh_paths, wh_peer,
)
from whcore.errors cimport WH_OK
from whcore.forwarder cimport CHANNEL_FROM_RELAY, forward_place, forward_retired, forward_take_retired
from whcore.peer_paths cimport path_fill, paths_settle
from whcore.tunnel cimport retired_keypairs, tunnel_set_local, tunnel_zero


cdef void renew_tunnels(wh_device* dev) noexcept nogil:
    """Under the control lock, after the static key changed."""
    cdef retired_keypairs old
    cdef wh_peer* peer
    cdef int i
    for i in range(KEY_BUCKETS):
        peer = dev.by_key[i]
        while peer != NULL:
            old.n = 0
            tunnel_zero(&peer.tunnel, &old)
            retire_keypairs(dev, &old)
            if peer.tunnel.handshake_index:
                index_release(dev, peer.tunnel.handshake_index)
                peer.tunnel.handshake_index = 0
            tunnel_set_local(&peer.tunnel, &dev.identity)
            peer = peer.next_in_bucket


cdef wh_paths* new_paths(wh_device* dev, object wanted) except NULL:
    cdef wh_paths* paths = <wh_paths*>calloc(1, sizeof(wh_paths))
    cdef int i
    if paths == NULL:
        raise MemoryError
    try:
        for i, path in enumerate(wanted):
            fill_path(dev, &paths.at[i], path)
            paths.n = i + 1
    except BaseException:
        free(paths)
        raise
    paths_settle(paths)
    return paths


cdef int fill_path(wh_device* dev, wh_path* path, object wanted) except -1:
    """wanted: (socket id, remote 18 bytes[, channel[, MTU[, link]]])."""
    cdef bytes remote = wanted[1]
    cdef const uint8_t* raw = remote
    cdef uint32_t channel = wanted[2] if len(wanted) > 2 else 0
    cdef uint16_t mtu = wanted[3] if len(wanted) > 3 else 0
    cdef uint32_t link = wanted[4] if len(wanted) > 4 else 0
    if len(remote) != 18 or channel >= CHANNEL_FROM_RELAY or 0 < mtu < 576:
        raise ValueError("a remote address has 18 bytes, a channel 31 bits, an MTU at least 576")
    if path_fill(dev, path, wanted[0], raw, channel, link) != WH_OK:
        raise ValueError(f"no path over socket {wanted[0]} to that address")
    path.mtu = mtu
    return 0


cdef int fill_place(wh_device* dev, forward_place* place, object client) except -1:
    """client: (socket id, remote 18 bytes)."""
    cdef wh_path* path = <wh_path*>calloc(1, sizeof(wh_path))
    if path == NULL:
        raise MemoryError
    try:
        fill_path(dev, path, client)
    except BaseException:
        free(path)
        raise
    place.socket = path.socket
    memcpy(place.remote, path.remote, 18)
    place.path = path
    return 0


cdef void settle_forwards(wh_device* dev) noexcept nogil:
    """Under the control lock: free what left the table once no worker can be on it."""
    cdef forward_retired* chain = forward_take_retired(&dev.forwards)
    if chain != NULL:
        retire_later(dev, RETIRED_FORWARDS, chain, -1)
    reclaim(dev, False)
