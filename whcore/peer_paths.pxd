"""The ways to a peer: filled, replaced, amended; what is heard on them, and when silence makes a second one be used.

Workers read a peer's paths without a lock; they are replaced as a whole, and freed when no worker can hold them.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from whcore.device cimport PATHS_DUPLICATE, wh_device, wh_path, wh_paths, wh_peer, wh_worker
from whcore.udp cimport wh_source

# Paths. path_fill: WH_OK, or WH_E_STATE where there is no such socket or it is of the other family. link: where a
# link-local address is meant, else ignored.
cdef int path_fill(const wh_device* dev, wh_path* path, int socket, const uint8_t* remote, uint32_t channel,
                   uint32_t link) noexcept nogil
# After at[] was filled: how large an inner packet may be, of the narrower path, as a packet may have to take either.
cdef void paths_settle(wh_paths* paths) noexcept nogil
cdef wh_paths* paths_of(const wh_path* path) noexcept nogil         # one path alone; NULL: out of memory
cdef bint path_is(const wh_path* path, const wh_path* other) noexcept nogil     # to the same place over the same socket
cdef void peer_set_paths(wh_device* dev, wh_peer* peer, wh_paths* paths) noexcept nogil
# The same only while they are still what the caller copied them from: a worker's finding never undoes a decision.
cdef void peer_amend_paths(wh_device* dev, wh_peer* peer, const wh_paths* before, wh_paths* after) noexcept nogil
# The kernel refused our source address: send from wherever it likes from now on.
cdef void peer_forget_source(wh_device* dev, wh_peer* peer) noexcept nogil
# refused: two, not known where there are fewer. What packets come to them changes nothing, until others are refused.
cdef void peer_refuse_sources(wh_device* dev, wh_peer* peer, const wh_source* refused) noexcept nogil
# Silence is over, on both paths; the second one's counts again when the peer's comes there.
cdef void peer_heard(wh_peer* peer) noexcept nogil
# Something authenticated came on this path: it ends silence there, a second one counts where flows are split; a plain
# peer's becomes the one to send on, a managed peer's is reported where it is none of the peer's.
cdef void peer_seen_on(wh_worker* w, wh_peer* peer, const wh_path* path, int64_t now) noexcept nogil
# Whether something sent now on one of the paths goes out on the other too (docs/protocol.md section 7, silence).
# wants_answer: from now on the peer is expected to be heard there.
cdef bint peer_sends_twice(wh_device* dev, wh_peer* peer, const wh_paths* paths, int at, bint wants_answer,
                           int64_t now) noexcept nogil

# Whether silence matters: a second path, if there is one, is there for that.
cdef inline bint watches_silence(const wh_paths* paths) noexcept nogil:
    return paths.mode != PATHS_DUPLICATE and paths.silence_ns != 0
