"""The cross-platform WireGuard configuration protocol (wireguard.com/xplatform): what `wg` speaks to a userspace device.

The caller's lock is held while lines are carried out, never while one is awaited: a client that is slow, or says
nothing, holds up nobody. Lines of clients that write at the same time may therefore take turns, as they may with
the several messages of one `wg setconf` to a kernel device.
"""

import errno as errno_codes
import ipaddress
import logging
import socket as socket_module

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, qsort
from libc.string cimport memchr, memcpy

from whcore.datapath cimport Datapath
from whcore.kernel cimport AF_INET, AF_INET6
from whcore.keys cimport secret_key_of
from whcore.snapshot cimport peer_snapshot, prefix_list, prefix_snapshot, take_snapshot
from whcore.sodium cimport sodium_free, sodium_is_zero, sodium_memzero
from whcore.uapi_stream cimport Answer, Lines, unhex

from whcore.errors import WireHubError

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char* text, void* address)
    const char* inet_ntop(int family, const void* address, char* text, unsigned int size)

cdef extern from "<stdio.h>" nogil:
    int snprintf(char* out, size_t size, const char* form, ...)

cdef enum:
    PREFIX_TEXT_MAX = 50                # 45 of an address with its end, a slash, three digits
    SECOND = 1_000_000_000

cdef bytes IPV4_MAPPED = bytes(10) + b"\xff\xff"

cdef object log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that cannot be carried out; args[0] is the errno of the answer."""


def serve(int fd, Datapath datapath, object device, object policy, object lock):
    """Answer requests until the other end closes; see uapi.pyi."""
    cdef Lines lines = Lines(fd)
    cdef Answer answer
    cdef char* line
    cdef size_t n = 0
    while lines.fill():
        line = lines.next(&n)
        operation = line[:n] if n <= 5 else b""
        if operation == b"get=1":
            if not lines.fill():
                return
            lines.next(&n)
            answer = Answer()
            code = errno_codes.EPROTO
            if n == 0:
                try:
                    with lock:
                        code = describe(answer, datapath, device)
                except Exception as error:
                    answer, code = Answer(), errno_of_exception(error)
        elif operation == b"set=1":
            code = change(lines, Change(datapath, device, policy), lock)
            if code is None:
                return
            answer = Answer()
        else:
            return
        answer.add(b"errno=%d\n\n" % -code)        # negative: what `wg` and wireguard-go agree upon
        answer.send(fd)


# --- get ------------------------------------------------------------------------------------------------------------

cdef int describe(Answer answer, Datapath datapath, device) except -1:
    """The device, its peers, their prefixes. Returns the errno of the answer, 0."""
    cdef peer_snapshot* peers
    cdef prefix_list prefixes
    cdef size_t n, i, at = 0
    if datapath.secret is not None:
        datapath.secret.check_open()
        answer.add_hex(b"private_key=", datapath.secret.key)
    answer.add(b"listen_port=%d\n" % device.listen_port)
    if device.fwmark:
        answer.add(b"fwmark=%d\n" % device.fwmark)
    n = take_snapshot(datapath.device(), &peers, &prefixes)
    try:
        if n:           # of nothing, qsort is undefined
            qsort(peers, n, sizeof(peer_snapshot), by_slot)
        if prefixes.n:
            qsort(prefixes.items, prefixes.n, sizeof(prefix_snapshot), by_slot_and_place)
        for i in range(n):
            describe_peer(answer, &peers[i])
            while at < prefixes.n and prefixes.items[at].slot == peers[i].slot:
                describe_prefix(answer, &prefixes.items[at])
                at += 1
    finally:
        sodium_free(peers)
        free(prefixes.items)
    return 0


cdef int by_slot(const void* a, const void* b) noexcept nogil:
    cdef uint32_t left = (<const peer_snapshot*>a).slot, right = (<const peer_snapshot*>b).slot
    return (left > right) - (left < right)


cdef int by_slot_and_place(const void* a, const void* b) noexcept nogil:
    """Of one list the prefixes stand in the order of the trie (IPv4 first, by address), which shall stay."""
    cdef const prefix_snapshot* left = <const prefix_snapshot*>a
    cdef const prefix_snapshot* right = <const prefix_snapshot*>b
    cdef int i
    if left.slot != right.slot:
        return (left.slot > right.slot) - (left.slot < right.slot)
    if left.address_len != right.address_len:
        return left.address_len - right.address_len
    for i in range(left.address_len):
        if left.address[i] != right.address[i]:
            return <int>left.address[i] - <int>right.address[i]
    return left.prefix_len - right.prefix_len


cdef int describe_peer(Answer answer, peer_snapshot* peer) except -1:
    answer.add_hex(b"public_key=", peer.key)
    answer.add_hex(b"preshared_key=", peer.psk)
    answer.add(b"protocol_version=1\n")
    if peer.path_socket >= 0:
        answer.add(b"endpoint=%s\n" % endpoint_text(peer.remote[:18], peer.link))
    answer.add(b"last_handshake_time_sec=%d\n" % (peer.handshake_ns // SECOND))
    answer.add(b"last_handshake_time_nsec=%d\n" % (peer.handshake_ns % SECOND))
    answer.add(b"tx_bytes=%d\nrx_bytes=%d\n" % (peer.tx_bytes, peer.rx_bytes))
    answer.add(b"persistent_keepalive_interval=%d\n" % (peer.keepalive_ns // SECOND))
    return 0


cdef int describe_prefix(Answer answer, const prefix_snapshot* prefix) except -1:
    cdef char text[PREFIX_TEXT_MAX + 16]
    cdef char address[PREFIX_TEXT_MAX]
    inet_ntop(AF_INET if prefix.address_len == 4 else AF_INET6, prefix.address, address, sizeof(address))
    return answer.append(text, snprintf(text, sizeof(text), "allowed_ip=%s/%d\n", address, prefix.prefix_len))


def endpoint_text(bytes remote, uint32_t link=0):
    """18 wire bytes as `1.2.3.4:5`, `[::1]:5`, or with a link `[fe80::1%eth0]:5`."""
    address = ipaddress.IPv6Address(remote[:16])
    port = int.from_bytes(remote[16:], "big")
    if address.ipv4_mapped is not None:
        return b"%s:%d" % (str(address.ipv4_mapped).encode(), port)
    return b"[%s%s]:%d" % (str(address).encode(), zone_text(link), port)


cdef bytes zone_text(uint32_t link):
    if link == 0:
        return b""
    try:
        return b"%" + socket_module.if_indextoname(link).encode()
    except OSError:             # it is gone
        return b"%%%d" % link


# --- set ------------------------------------------------------------------------------------------------------------

cdef object change(Lines lines, Change request, object lock):
    """Carry out the lines of one set request. Returns the errno, or None where the stream ended in the middle."""
    cdef char* line
    cdef size_t n = 0
    code = 0
    while lines.fill():
        with lock:
            while True:
                line = lines.next(&n)
                if line == NULL:
                    break
                if n == 0:
                    return code
                if code == 0:       # the rest of a refused request is read and ignored
                    code = errno_of(request, line, n)
    return None


cdef object errno_of(Change request, const char* line, size_t n):
    cdef const char* equals = <const char*>memchr(line, 61, n)
    if equals == NULL:
        return errno_codes.EPROTO
    try:
        request.apply(line[:equals - line], equals + 1, n - (equals - line) - 1)
    except Exception as error:
        return errno_of_exception(error)
    return 0


cdef object errno_of_exception(error):
    """What nobody foresaw is EIO, and logged: the client gets an answer, and its next request too."""
    if isinstance(error, Refused):
        return error.args[0]
    if isinstance(error, OSError):
        return error.errno or errno_codes.EIO
    if isinstance(error, (ValueError, KeyError, OverflowError, WireHubError)):
        return errno_codes.EINVAL
    if isinstance(error, MemoryError):
        return errno_codes.ENOMEM
    log.error("a request for configuration failed", exc_info=error)
    return errno_codes.EIO


cdef frozenset DEVICE_NAMES = frozenset({b"private_key", b"listen_port", b"fwmark", b"replace_peers"})
cdef frozenset PEER_NAMES = frozenset({
    b"remove", b"update_only", b"preshared_key", b"endpoint", b"persistent_keepalive_interval",
    b"replace_allowed_ips", b"allowed_ip", b"protocol_version",
})


cdef class Change:
    """One set request: which peer its lines are about, and what each of them does."""

    cdef Datapath datapath
    cdef object device
    cdef object policy
    cdef bytes peer             # None before the first public_key line
    cdef bint created           # by this request
    cdef bint ignored           # update_only of a peer that is not there, a removed one, or ourselves

    def __cinit__(self, Datapath datapath, device, policy):
        self.datapath = datapath
        self.device = device
        self.policy = policy
        self.peer = None

    cdef int apply(self, bytes name, const char* value, size_t n) except -1:
        if name == b"public_key":
            self.select_peer(value, n)
        elif self.peer is None:
            if name not in DEVICE_NAMES:
                raise Refused(errno_codes.EINVAL)
            require(self.policy.permits_device_change(name.decode()))
            if name == b"private_key":
                self.set_private_key(value, n)
            else:
                self.apply_to_device(name, value[:n].decode("ascii"))
        else:
            if name not in PEER_NAMES:
                raise Refused(errno_codes.EINVAL)
            if self.ignored:
                return 0
            require(self.policy.permits_peer_change(self.peer, name.decode()))
            if name == b"preshared_key":
                self.set_preshared_key(value, n)
            elif name == b"allowed_ip":
                self.change_allowed_ip(value, n)
            else:
                self.apply_to_peer(name, value[:n].decode("ascii"))
        return 0

    cdef int set_private_key(self, const char* value, size_t n) except -1:
        """The key that is there already changes nothing: `wg syncconf` always sends it, and sessions shall live on."""
        cdef uint8_t raw[32]
        cdef bint good = unhex(raw, value, n)
        try:
            if not good:
                raise Refused(errno_codes.EINVAL)
            secret = None if sodium_is_zero(raw, 32) else secret_key_of(raw)
        finally:
            sodium_memzero(raw, 32)
        present = self.datapath.secret
        if (secret.public_key if secret else None) == (present.public_key if present else None):
            return 0
        self.datapath.set_secret_key(secret)
        if secret is not None and self.datapath.has_peer(secret.public_key):
            self.datapath.remove_peer(secret.public_key)
        return 0

    cdef int select_peer(self, const char* value, size_t n) except -1:
        cdef uint8_t raw[32]
        if not unhex(raw, value, n):
            raise Refused(errno_codes.EINVAL)
        self.peer = raw[:32]
        self.created = False
        self.ignored = self.datapath.secret is not None and self.datapath.secret.public_key == self.peer
        if not self.ignored and not self.datapath.has_peer(self.peer):
            self.datapath.add_peer(self.peer)
            self.created = True
        return 0

    cdef int set_preshared_key(self, const char* value, size_t n) except -1:
        cdef uint8_t raw[32]
        cdef bint good = unhex(raw, value, n)
        try:
            if not good:
                raise Refused(errno_codes.EINVAL)
            self.datapath.put_psk(self.peer, raw)
        finally:
            sodium_memzero(raw, 32)
        return 0

    cdef int apply_to_device(self, bytes name, str value) except -1:
        if name == b"listen_port":
            self.device.bind(bounded(value, 65535))
        elif name == b"fwmark":
            self.device.set_fwmark(bounded(value, 0xFFFFFFFF))
        else:
            require_true(value)
            for status in self.datapath.peers():
                self.datapath.remove_peer(status.public_key)
        return 0

    cdef int apply_to_peer(self, bytes name, str value) except -1:
        if name == b"remove" or name == b"update_only":
            require_true(value)
            if name == b"remove" or self.created:
                self.datapath.remove_peer(self.peer)
                self.ignored = True
        elif name == b"endpoint":
            self.datapath.set_path(self.peer, parse_endpoint(value, self.device))
        elif name == b"persistent_keepalive_interval":
            self.datapath.set_keepalive(self.peer, bounded(value, 65535))
        elif name == b"replace_allowed_ips":
            require_true(value)
            self.datapath.clear_allowed_ips(self.peer)
        elif value != "1":          # protocol_version
            raise Refused(errno_codes.EINVAL)
        return 0

    cdef int change_allowed_ip(self, const char* value, size_t n) except -1:
        cdef uint8_t raw[16]
        cdef int address_len, prefix_len
        cdef bint gone = n > 0 and value[0] == 45
        if not parse_prefix(value + gone, n - gone, raw, &address_len, &prefix_len):
            raise Refused(errno_codes.EINVAL)
        address = PyBytes_FromStringAndSize(<char*>raw, address_len)
        if gone:
            try:
                self.datapath.remove_allowed_ip(self.peer, address, prefix_len)
            except KeyError:
                pass            # not the peer's: nothing to remove, as the kernel's device treats it
        else:
            require(self.policy.permits_allowed_ip(address, prefix_len))
            self.datapath.add_allowed_ip(self.peer, address, prefix_len)
        return 0


cdef object require(bint permitted):
    if not permitted:
        raise Refused(errno_codes.EPERM)


cdef object require_true(str value):
    if value != "true":
        raise Refused(errno_codes.EINVAL)


cdef object bounded(str value, object limit):
    if not value.isascii() or not value.isdigit() or int(value) > limit:
        raise Refused(errno_codes.EINVAL)
    return int(value)


cdef bint parse_prefix(const char* text, size_t n, uint8_t* address, int* address_len, int* prefix_len) noexcept nogil:
    """`10.0.0.0/8`, or an address alone. Bits beyond the prefix are left as they are. False: not a prefix."""
    cdef char copy[PREFIX_TEXT_MAX]
    cdef size_t i, slash = n
    cdef int length = 0
    if n >= PREFIX_TEXT_MAX:
        return False
    memcpy(copy, text, n)
    copy[n] = 0
    for i in range(n):
        if copy[i] == 47:
            slash = i
            copy[i] = 0
            break
    if inet_pton(AF_INET, copy, address) == 1:
        address_len[0] = 4
    elif inet_pton(AF_INET6, copy, address) == 1:
        address_len[0] = 16
    else:
        return False
    prefix_len[0] = 8 * address_len[0]
    if slash == n:
        return True
    if not 1 <= n - slash - 1 <= 3:
        return False
    for i in range(slash + 1, n):
        if not 48 <= copy[i] <= 57:
            return False
        length = 10 * length + copy[i] - 48
    if length > prefix_len[0]:
        return False
    prefix_len[0] = length
    return True


cdef object parse_endpoint(str value, device):
    """`1.2.3.4:5` or `[fe80::1%2]:5` -> a path for Datapath.set_path. Raises ValueError, OSError, Refused."""
    host, separator, port = value.rpartition(":")
    if not separator or bounded(port, 65535) == 0:
        raise Refused(errno_codes.EINVAL)
    host, _, zone = host.removeprefix("[").removesuffix("]").partition("%")
    address = ipaddress.ip_address(host)
    packed = address.packed if address.version == 6 else IPV4_MAPPED + address.packed
    path = (device.socket_for(packed.startswith(IPV4_MAPPED)), packed + bounded(port, 65535).to_bytes(2, "big"))
    return (*path, 0, 0, link_index(zone)) if zone else path


cdef object link_index(str zone):
    if zone.isascii() and zone.isdigit():
        return int(zone)
    try:
        return socket_module.if_nametoindex(zone)
    except OSError:
        raise Refused(errno_codes.ENODEV) from None
