"""The ways to a peer, and what is heard on them: see peer_paths.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from whcore.device cimport (
    EVENT_NEW_PATH, MAX_PACKET, MAX_SOCKETS, PATHS_DUPLICATE, PATHS_SPLIT, RETIRED_MEMORY, peer_check_at, raise_event,
    retire_later, wh_device, wh_path, wh_paths, wh_peer, wh_worker,
)
from whcore.errors cimport WH_E_STATE, WH_OK
from whcore.forwarder cimport CHANNEL_HEADER_LEN
from whcore.ip_packet cimport IPV4_HEADER_LEN, IPV6_HEADER_LEN, UDP_HEADER_LEN
from whcore.kernel cimport (
    AF_INET, wh_fence, wh_link_local, wh_load_i64, wh_load_ptr, wh_load_u32, wh_set_link, wh_sockaddr, wh_spin_lock,
    wh_spin_unlock, wh_store_i64, wh_store_ptr, wh_store_u32,
)
from whcore.tunnel cimport DATA_OVERHEAD
from whcore.udp cimport wh_source

cdef int64_t NEW_PATH_INTERVAL = 250_000_000    # ns between events for one unchanged off-path source
cdef int64_t NEW_PATH_PAUSE = 20_000_000        # ns between events of one peer, whatever the source


cdef int path_fill(const wh_device* dev, wh_path* path, int socket, const uint8_t* remote, uint32_t channel,
                   uint32_t link) noexcept nogil:
    memset(path, 0, sizeof(wh_path))
    if socket < 0 or socket >= MAX_SOCKETS or dev.sockets[socket].fd < 0:
        return WH_E_STATE
    path.socket = socket
    path.channel = channel
    memcpy(path.remote, remote, 18)
    path.address_len = wh_sockaddr(&path.address, remote, dev.sockets[socket].family)
    if path.address_len == 0:
        return WH_E_STATE
    if wh_link_local(remote):
        path.link = link
        wh_set_link(&path.address, link)
    return WH_OK


cdef wh_paths* paths_of(const wh_path* path) noexcept nogil:
    cdef wh_paths* paths = <wh_paths*>calloc(1, sizeof(wh_paths))
    if paths != NULL:
        paths.n = 1
        paths.inner_limit = MAX_PACKET
        paths.at[0] = path[0]
    return paths


cdef void paths_settle(wh_paths* paths) noexcept nogil:
    cdef size_t limit = MAX_PACKET, overhead
    cdef const wh_path* path
    cdef int i
    for i in range(paths.n):
        path = &paths.at[i]
        if path.mtu == 0:
            continue
        overhead = IPV4_HEADER_LEN if path.address.ss_family == AF_INET else IPV6_HEADER_LEN
        overhead += UDP_HEADER_LEN + DATA_OVERHEAD + (CHANNEL_HEADER_LEN if path.channel else 0)
        limit = min(limit, (path.mtu - overhead) & ~<size_t>15)     # padding to 16 must fit as well
    paths.inner_limit = <uint32_t>limit


cdef bint path_is(const wh_path* path, const wh_path* other) noexcept nogil:
    return (
        path.socket == other.socket and path.channel == other.channel and path.link == other.link
        and memcmp(path.remote, other.remote, 18) == 0
    )


cdef void peer_set_paths(wh_device* dev, wh_peer* peer, wh_paths* paths) noexcept nogil:
    cdef wh_paths* old
    cdef int64_t since
    cdef int i, same
    wh_spin_lock(&peer.seen_lock)
    old = peer.paths
    same = paths_that_stay(old, paths)
    if peer.managed:
        keep_sources(old, paths)
    wh_store_ptr(&peer.paths, paths)
    wh_spin_unlock(&peer.seen_lock)
    for i in range(2):
        since = wh_load_i64(&peer.unanswered_at[i])
        if i >= same:
            path_heard(peer, i)
        elif since and watches_silence(paths):
            watch_silence(dev, peer, since + paths.silence_ns)
    if same < 2:
        wh_store_u32(&peer.second_answers, 0)
    if old != NULL:
        retire_later(dev, RETIRED_MEMORY, old, -1)


cdef void keep_sources(const wh_paths* before, wh_paths* after) noexcept nogil:
    """A path that stays leaves from where it did, whatever else was decided about it."""
    cdef int i, j
    if before == NULL or after == NULL:
        return
    for i in range(after.n):
        for j in range(before.n):
            if path_is(&before.at[j], &after.at[i]):
                after.at[i].source = before.at[j].source


cdef int paths_that_stay(const wh_paths* before, const wh_paths* after) noexcept nogil:
    """Whose silence goes on: the first, or both where flows are split over them as before."""
    if before == NULL or after == NULL or not path_is(&before.at[0], &after.at[0]):
        return 0
    if before.n < 2 or after.n < 2 or before.mode != PATHS_SPLIT or after.mode != PATHS_SPLIT:
        return 1
    return 2 if path_is(&before.at[1], &after.at[1]) else 1


cdef void peer_amend_paths(wh_device* dev, wh_peer* peer, const wh_paths* before, wh_paths* after) noexcept nogil:
    cdef bint unchanged
    wh_spin_lock(&peer.seen_lock)
    unchanged = peer.paths == before
    if unchanged:
        wh_store_ptr(&peer.paths, after)
    wh_spin_unlock(&peer.seen_lock)
    if not unchanged:
        free(after)
    elif before != NULL:
        retire_later(dev, RETIRED_MEMORY, <void*>before, -1)


cdef void peer_forget_source(wh_device* dev, wh_peer* peer) noexcept nogil:
    cdef wh_paths* paths = <wh_paths*>wh_load_ptr(&peer.paths)
    cdef wh_paths* fresh
    if paths == NULL:
        return
    fresh = <wh_paths*>malloc(sizeof(wh_paths))
    if fresh == NULL:
        return
    fresh[0] = paths[0]
    fresh.at[0].source.known = 0
    fresh.at[1].source.known = 0
    peer_amend_paths(dev, peer, paths, fresh)


cdef void peer_refuse_sources(wh_device* dev, wh_peer* peer, const wh_source* refused) noexcept nogil:
    cdef wh_paths* paths
    cdef int i
    wh_spin_lock(&peer.seen_lock)
    peer.refused[0] = refused[0]
    peer.refused[1] = refused[1]
    wh_spin_unlock(&peer.seen_lock)
    paths = <wh_paths*>wh_load_ptr(&peer.paths)
    for i in range(paths.n if paths != NULL else 0):
        if is_refused(peer, &paths.at[i].source):
            peer_forget_source(dev, peer)
            return


cdef bint is_refused(wh_peer* peer, const wh_source* source) noexcept nogil:
    cdef bint found
    if not source.known:
        return False
    wh_spin_lock(&peer.seen_lock)
    found = same_source(&peer.refused[0], source) or same_source(&peer.refused[1], source)
    wh_spin_unlock(&peer.seen_lock)
    return found


cdef void peer_heard(wh_peer* peer) noexcept nogil:
    path_heard(peer, 0)
    path_heard(peer, 1)
    if wh_load_u32(&peer.second_answers):
        wh_store_u32(&peer.second_answers, 0)


cdef inline void path_heard(wh_peer* peer, int i) noexcept nogil:
    if wh_load_i64(&peer.unanswered_at[i]):
        wh_store_i64(&peer.unanswered_at[i], 0)


cdef void peer_seen_on(wh_worker* w, wh_peer* peer, const wh_path* path, int64_t now) noexcept nogil:
    cdef wh_paths* paths = <wh_paths*>wh_load_ptr(&peer.paths)
    cdef wh_paths* fresh
    cdef int i, at = -1
    if paths != NULL:
        for i in range(paths.n):
            if path_is(&paths.at[i], path):
                at = i
    if paths == NULL or not watches_silence(paths):
        peer_heard(peer)
    elif at == 0:
        path_heard(peer, 0)
    elif at == 1 and paths.mode == PATHS_SPLIT:
        path_heard(peer, 1)
        if not wh_load_u32(&peer.second_answers):
            wh_store_u32(&peer.second_answers, 1)
    if at >= 0:
        if not same_source(&paths.at[at].source, &path.source) and not is_refused(peer, &path.source):
            note_source(w.device, peer, paths, at, &path.source)
    elif peer.managed:
        report_path(w, peer, path, now)
    else:
        fresh = paths_of(path)
        if fresh != NULL:
            peer_amend_paths(w.device, peer, paths, fresh)


cdef void note_source(wh_device* dev, wh_peer* peer, const wh_paths* paths, int at, const wh_source* source) noexcept nogil:
    """The peer writes to this address of ours. A plain peer follows us to the better route, as WireGuard has it; one that
    is managed stays on its path, which is symmetric."""
    cdef wh_paths* fresh = <wh_paths*>malloc(sizeof(wh_paths))
    if fresh == NULL:
        return
    fresh[0] = paths[0]
    fresh.at[at].source = source[0]
    fresh.at[at].source.stay = peer.managed
    peer_amend_paths(dev, peer, paths, fresh)


cdef void report_path(wh_worker* w, wh_peer* peer, const wh_path* path, int64_t now) noexcept nogil:
    cdef bint repeated
    wh_spin_lock(&peer.seen_lock)
    repeated = now - peer.seen_at < NEW_PATH_PAUSE or (
        now - peer.seen_at < NEW_PATH_INTERVAL and peer.seen_channel == path.channel
        and memcmp(peer.seen_remote, path.remote, 18) == 0
    )
    if not repeated:
        peer.seen_at = now
        peer.seen_channel = path.channel
        memcpy(peer.seen_remote, path.remote, 18)
    wh_spin_unlock(&peer.seen_lock)
    if not repeated:
        raise_event(w, EVENT_NEW_PATH, peer.tunnel.remote_static, path)


cdef inline bint same_source(const wh_source* a, const wh_source* b) noexcept nogil:
    return a.known == b.known and a.ifindex == b.ifindex and memcmp(a.address, b.address, 16) == 0


cdef bint peer_sends_twice(wh_device* dev, wh_peer* peer, const wh_paths* paths, int at, bint wants_answer,
                           int64_t now) noexcept nogil:
    cdef int64_t since = wh_load_i64(&peer.unanswered_at[at])
    if since == 0:
        since = now
        if wants_answer and (at == 0 or wh_load_u32(&peer.second_answers)):
            wh_store_i64(&peer.unanswered_at[at], now)
            if watches_silence(paths):
                watch_silence(dev, peer, now + paths.silence_ns)
    if watches_silence(paths):
        return paths.n == 2 and now - since >= paths.silence_ns
    return paths.n == 2 and paths.mode == PATHS_DUPLICATE


cdef void watch_silence(wh_device* dev, wh_peer* peer, int64_t at) noexcept nogil:
    """One look is armed at a time, however often silence begins and ends before it: the timer thread, which finds out
    then whether to look again, is woken no more often than silence takes."""
    cdef int64_t armed
    wh_fence()          # who takes the look away reads unanswered_at after that
    armed = wh_load_i64(&peer.silence_at)
    if armed == 0 or armed > at:
        wh_store_i64(&peer.silence_at, at)
        peer_check_at(dev, peer, at)
