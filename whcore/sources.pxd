"""From which of this host's addresses data leaves: where each peer last wrote to, unless that was refused."""

from whcore.device cimport wh_device, wh_peer

# (public key, remote 18 bytes, source as in a ControlDatagram) of each path of a peer whose source is known.
cdef list known_sources(wh_device* dev)
# At most two, as in a ControlDatagram: data of the peer leaves from them no more, wherever it writes to, until others
# are given. Raises KeyError, ValueError.
cdef int refuse_sources(wh_device* dev, bytes public_key, object sources) except -1
# Of one peer, for now: its next message may bring it back. Raises KeyError.
cdef int forget_sources_of(wh_device* dev, bytes public_key) except -1
# Under the control lock. Of all peers, refused ones too.
cdef void forget_all_sources(wh_device* dev) noexcept nogil
cdef void retry_segments(wh_device* dev) noexcept nogil     # how long a datagram links take is found out anew
