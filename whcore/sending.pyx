"""What leaves for a peer outside of a worker's bursts: see sending.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from whcore.aead cimport aead_seal
from whcore.device cimport (
    COUNT_DUPLICATED, COUNT_TX_DATA, DROP_SEND, DROP_STAGE_FULL, DROP_STAGE_OLD, HEADROOM, STAGE_LIFETIME, STAGE_LIMIT,
    peer_check_at, peer_want_handshake, staged_packet, wh_device, wh_path, wh_paths, wh_peer, wh_worker,
)
from whcore.forwarder cimport CHANNEL_HEADER_LEN, put_channel_header
from whcore.kernel cimport (
    AF_INET, EADDRNOTAVAIL, EINVAL, ENETUNREACH, ENODEV, MSG_DONTWAIT, errno, iovec, msghdr, sendmsg, wh_add_u64, wh_load_ptr,
    wh_load_u32, wh_put_le32, wh_put_le64, wh_spin_lock, wh_spin_unlock,
)
from whcore.offload cimport packet_ecn
from whcore.peer_paths cimport peer_forget_source, peer_sends_twice
from whcore.tunnel cimport (
    DATA_HEADER_LEN, MESSAGE_DATA, TAG_LEN, TRAFFIC_DATA, TRAFFIC_KEEPALIVE, keypair, tunnel_claim,
    tunnel_rekey_after_send, tunnel_sent,
)
from whcore.udp cimport CONTROL_WORDS, wh_udp_control, wh_udp_hop_limit, wh_udp_let_fragment

cdef enum:
    UNFRAGMENTED_LEN = 576 - 20 - 8     # of a datagram that every IPv4 path carries whole


cdef size_t padded_len(const wh_device* dev, size_t n) noexcept nogil:
    """5.4.6: to a multiple of 16, but never past the interface's MTU."""
    cdef size_t padded = (n + 15) & ~<size_t>15
    cdef size_t mtu = <size_t>dev.mtu
    if padded > mtu:
        padded = mtu
    return padded if padded > n else n


cdef size_t data_frame(const wh_device* dev, keypair* kp, uint64_t counter, uint8_t* plaintext, size_t n) noexcept nogil:
    """Header and padding around a plaintext; sealing it is the caller's. Returns the padded length."""
    cdef uint8_t* header = plaintext - DATA_HEADER_LEN
    cdef size_t padded = padded_len(dev, n)
    header[0] = MESSAGE_DATA
    header[1] = header[2] = header[3] = 0
    wh_put_le32(header + 4, kp.remote_index)
    wh_put_le64(header + 8, counter)
    memset(plaintext + n, 0, padded - n)
    return padded


cdef bint source_was_refused(int error) noexcept nogil:
    """The errors of a send whose source address or link went away."""
    return error == EINVAL or error == EADDRNOTAVAIL or error == ENODEV or error == ENETUNREACH


cdef bint send_datagrams(const wh_device* dev, const wh_path* path, const uint8_t* data, size_t n, uint16_t segment_len,
                         uint8_t ecn, uint8_t hop_limit) noexcept nogil:
    cdef uint64_t control[CONTROL_WORDS]
    cdef iovec vector
    cdef msghdr message
    cdef int fd = dev.sockets[path.socket].fd, family = dev.sockets[path.socket].family
    vector.iov_base = <void*>data
    vector.iov_len = n
    memset(&message, 0, sizeof(message))
    message.msg_name = <void*>&path.address
    message.msg_namelen = path.address_len
    message.msg_iov = &vector
    message.msg_iovlen = 1
    wh_udp_control(&message, control, family, segment_len, ecn, &path.source)
    if hop_limit:
        wh_udp_hop_limit(&message, control, family, hop_limit)
    return sendmsg(fd, &message, MSG_DONTWAIT) == <ssize_t>n


cdef bint send_control_datagram(const wh_device* dev, wh_path* path, const uint8_t* data, size_t n, uint8_t hop_limit,
                                bint whole) noexcept nogil:
    """Control is not measured as data is, so what not every path carries goes without DF over IPv4 (RFC 791, 3.2: 576
    bytes). Data that a worker sends in the same moment is without DF too, which it needs not: it is as long as was
    measured."""
    cdef int fd = dev.sockets[path.socket].fd
    cdef bint cut = not whole and n > UNFRAGMENTED_LEN and dev.sockets[path.socket].family == AF_INET
    cdef bint forbidden = cut and wh_udp_let_fragment(fd, True)
    cdef bint sent = send_datagrams(dev, path, data, n, 0, 0, hop_limit)
    if not sent and path.source.known and source_was_refused(errno):
        path.source.known = 0
        sent = send_datagrams(dev, path, data, n, 0, 0, hop_limit)
    if forbidden:
        wh_udp_let_fragment(fd, False)
    return sent


cdef bint send_on_path(wh_device* dev, const wh_path* path, uint8_t* data, size_t n, uint8_t ecn) noexcept nogil:
    if path.channel:
        data -= CHANNEL_HEADER_LEN
        n += CHANNEL_HEADER_LEN
        put_channel_header(data, path.channel)
    return send_datagrams(dev, path, data, n, 0, ecn, 0)


cdef int send_to_peer(wh_device* dev, wh_peer* peer, uint8_t* data, size_t n, uint8_t ecn, bint twice) noexcept nogil:
    cdef wh_paths* paths = <wh_paths*>wh_load_ptr(&peer.paths)
    cdef wh_path path
    cdef int i, copies = 0
    if paths == NULL:
        return 0
    for i in range(paths.n if twice else 1):
        path = paths.at[i]
        if send_on_path(dev, &path, data, n, ecn):
            copies += 1
        elif path.source.known and source_was_refused(errno):
            peer_forget_source(dev, peer)
            path.source.known = 0
            copies += send_on_path(dev, &path, data, n, ecn)
    return copies


cdef bint seal_and_send(wh_worker* w, wh_peer* peer, keypair* kp, uint64_t counter, uint8_t* plaintext, size_t n,
                        int64_t now) noexcept nogil:
    cdef wh_device* dev = w.device
    cdef uint8_t ecn = packet_ecn(plaintext) if n else 0
    cdef size_t padded = data_frame(dev, kp, counter, plaintext, n)
    cdef size_t total = DATA_HEADER_LEN + padded + TAG_LEN
    cdef wh_paths* paths = <wh_paths*>wh_load_ptr(&peer.paths)
    cdef bint twice = paths != NULL and peer_sends_twice(dev, peer, paths, 0, n > 0, now)
    cdef int copies
    aead_seal(plaintext, plaintext, padded, NULL, 0, counter, kp.send_key)
    peer_check_at(dev, peer, tunnel_sent(&peer.tunnel, TRAFFIC_DATA if n else TRAFFIC_KEEPALIVE, now))
    copies = send_to_peer(dev, peer, plaintext - DATA_HEADER_LEN, total, ecn, twice)
    if copies == 0:
        w.counters[DROP_SEND] += 1
        return False
    w.counters[COUNT_TX_DATA] += copies
    w.counters[COUNT_DUPLICATED] += copies - 1
    wh_add_u64(&peer.tx_bytes, copies * total)
    wh_add_u64(&peer.tx_packets, copies if n else 0)
    if tunnel_rekey_after_send(kp, now):
        peer_want_handshake(dev, peer)
    return True


cdef bint peer_send_keepalive(wh_worker* w, wh_peer* peer, int64_t now) noexcept nogil:
    """An empty data message; False without a session or path."""
    cdef uint8_t frame[HEADROOM + 64]
    cdef uint64_t counter = 0
    cdef keypair* kp
    if wh_load_ptr(&peer.paths) == NULL:
        return False
    kp = tunnel_claim(&peer.tunnel, 1, &counter, now)
    if kp == NULL:
        return False
    return seal_and_send(w, peer, kp, counter, frame + HEADROOM, 0, now)


cdef void peer_stage(wh_worker* w, wh_peer* peer, const uint8_t* packet, size_t n, int64_t now) noexcept nogil:
    """Keep a copy until there is a session and a path; the oldest goes where the queue is full."""
    cdef staged_packet* staged = <staged_packet*>malloc(sizeof(staged_packet) + HEADROOM + n + 48)
    cdef staged_packet* dropped = NULL
    if staged == NULL:
        w.counters[DROP_STAGE_FULL] += 1
        return
    staged.next = NULL
    staged.staged_at = now
    staged.len = <uint32_t>n
    staged.data = <uint8_t*>staged + sizeof(staged_packet) + HEADROOM
    memcpy(staged.data, packet, n)
    wh_spin_lock(&peer.stage_lock)
    if peer.staged >= STAGE_LIMIT:
        dropped = peer.stage_head
        peer.stage_head = dropped.next
        peer.staged -= 1
    if peer.stage_head == NULL:
        peer.stage_head = staged
    else:
        peer.stage_tail.next = staged
    peer.stage_tail = staged
    peer.staged += 1
    wh_spin_unlock(&peer.stage_lock)
    if dropped != NULL:
        w.counters[DROP_STAGE_FULL] += 1
        free(dropped)


cdef void peer_flush(wh_worker* w, wh_peer* peer, int64_t now) noexcept nogil:
    """Send what is staged, in order, as far as session and path allow."""
    cdef staged_packet* packet
    cdef uint64_t counter = 0
    cdef keypair* kp
    while wh_load_u32(&peer.staged):
        if wh_load_ptr(&peer.paths) == NULL:
            peer_want_handshake(w.device, peer)
            return
        kp = tunnel_claim(&peer.tunnel, 1, &counter, now)
        if kp == NULL:
            peer_want_handshake(w.device, peer)
            return
        wh_spin_lock(&peer.stage_lock)
        packet = peer.stage_head
        if packet != NULL:
            peer.stage_head = packet.next
            peer.staged -= 1
        wh_spin_unlock(&peer.stage_lock)
        if packet == NULL:
            return
        if now - packet.staged_at > STAGE_LIFETIME:
            w.counters[DROP_STAGE_OLD] += 1
        else:
            seal_and_send(w, peer, kp, counter, packet.data, packet.len, now)
        free(packet)
