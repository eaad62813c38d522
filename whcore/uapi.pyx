"""The cross-platform WireGuard configuration protocol (wireguard.com/xplatform): what `wg` speaks to a userspace device.

Requests and answers hold secret keys as hexadecimal text, so lines are read, parsed and written in sodium_malloc
memory; only the public parts of a line become Python objects.
"""

import errno as errno_codes
import ipaddress

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint8_t
from libc.stdlib cimport free
from libc.string cimport memchr, memcpy, memmove, memset
from posix.unistd cimport read, write

from whcore.datapath cimport Datapath, allowed_by_slot, peer_snapshot, prefix_list
from whcore.keys cimport SecretKey, secret_key_of
from whcore.sodium cimport sodium_free, sodium_is_zero, sodium_malloc, sodium_memzero

from whcore.errors import WireHubError

cdef enum:
    LINE_MAX = 4096
    ANSWER_STEP = 65536


class Refused(Exception):
    """A request that cannot be carried out; args[0] is the errno of the answer."""


cdef class Lines:
    """Lines of one connection, in locked memory."""

    cdef int fd
    cdef char* buffer
    cdef size_t used        # bytes read
    cdef size_t start       # of the line that comes next

    def __cinit__(self, int fd):
        self.fd = fd
        self.used = self.start = 0
        self.buffer = <char*>sodium_malloc(LINE_MAX)
        if self.buffer == NULL:
            raise MemoryError

    def __dealloc__(self):
        sodium_free(self.buffer)

    cdef char* next(self, size_t* n) except? NULL:
        """The next line without its end, NULL at the end of the stream. Raises Refused for one over LINE_MAX."""
        cdef char* end
        cdef ssize_t got
        while True:
            end = <char*>memchr(self.buffer + self.start, 10, self.used - self.start)
            if end != NULL:
                n[0] = end - (self.buffer + self.start)
                self.start += n[0] + 1
                return end - n[0]
            memmove(self.buffer, self.buffer + self.start, self.used - self.start)
            self.used -= self.start
            self.start = 0
            if self.used == LINE_MAX:
                raise Refused(errno_codes.EINVAL)
            with nogil:
                got = read(self.fd, self.buffer + self.used, LINE_MAX - self.used)
            if got < 0 and errno == EINTR:
                continue
            if got <= 0:
                return NULL
            self.used += got


cdef class Answer:
    """Text of an answer, in locked memory, written when it is complete."""

    cdef char* text
    cdef size_t used
    cdef size_t room

    def __dealloc__(self):
        sodium_free(self.text)

    cdef int append(self, const char* data, size_t n) except -1:
        cdef char* grown
        if self.used + n > self.room:
            grown = <char*>sodium_malloc(self.room + n + ANSWER_STEP)
            if grown == NULL:
                raise MemoryError
            if self.used:
                memcpy(grown, self.text, self.used)
            sodium_free(self.text)
            self.text = grown
            self.room += n + ANSWER_STEP
        memcpy(self.text + self.used, data, n)
        self.used += n
        return 0

    cdef int add(self, bytes line) except -1:
        return self.append(line, len(line))

    cdef int add_hex(self, bytes name, const uint8_t* key) except -1:
        """A line with 32 bytes in hexadecimal, in time that does not depend on them."""
        cdef char text[65]
        cdef int i, nibble
        for i in range(64):
            nibble = (key[i // 2] >> (4 if i % 2 == 0 else 0)) & 15
            text[i] = <char>(48 + nibble + ((9 - nibble) >> 8 & 39))
        text[64] = 10
        self.add(name)
        self.append(text, 65)
        sodium_memzero(text, 65)
        return 0

    cdef int send(self, int fd) except -1:
        """Write everything. Raises OSError."""
        cdef size_t sent = 0
        cdef ssize_t n
        while sent < self.used:
            with nogil:
                n = write(fd, self.text + sent, self.used - sent)
            if n < 0 and errno != EINTR:
                raise OSError(errno, "cannot answer")
            if n > 0:
                sent += n
        return 0


cdef bint unhex(uint8_t* out, const char* text, size_t n) noexcept nogil:
    """64 hexadecimal digits into 32 bytes without a branch or table look-up on their values; False if they are not."""
    cdef int i, c, digit, letter, is_digit, is_letter, bad = 0
    if n != 64:
        return False
    memset(out, 0, 32)
    for i in range(64):
        c = <uint8_t>text[i]
        digit = c ^ 48
        letter = (c & ~32) - 55
        is_digit = (digit - 10) >> 8                            # all ones where 0 <= digit < 10
        is_letter = ((9 - letter) & (letter - 16)) >> 8         # all ones where 10 <= letter < 16
        bad |= ~(is_digit | is_letter)
        out[i // 2] |= <uint8_t>(((is_digit & digit) | (is_letter & letter)) << (4 if i % 2 == 0 else 0))
    return bad == 0


def serve(int fd, Datapath datapath, object device):
    """Answer requests until the other end closes; see uapi.pyi."""
    cdef Lines lines = Lines(fd)
    cdef char* line
    cdef size_t n = 0
    while True:
        try:
            line = lines.next(&n)
        except Refused:
            return
        if line == NULL:
            return
        operation = line[:n] if n <= 5 else b""
        if operation == b"get=1":
            answer_get(lines, datapath, device).send(fd)
        elif operation == b"set=1":
            code = answer_set(lines, datapath, device)
            if code is None:
                return
            finish(Answer(), code).send(fd)
        else:
            return


cdef Answer finish(Answer answer, int code):
    answer.add(b"errno=%d\n\n" % code)
    return answer


# --- get ------------------------------------------------------------------------------------------------------------

cdef Answer answer_get(Lines lines, Datapath datapath, device):
    cdef Answer answer = Answer()
    cdef peer_snapshot* peers
    cdef prefix_list prefixes
    cdef size_t n, i
    if lines.next(&n) == NULL or n != 0:
        return finish(answer, errno_codes.EPROTO)
    if datapath.secret is not None:
        datapath.secret.check_open()
        answer.add_hex(b"private_key=", datapath.secret.key)
    answer.add(b"listen_port=%d\n" % device.listen_port)
    if device.fwmark:
        answer.add(b"fwmark=%d\n" % device.fwmark)
    n = datapath.snapshot(&peers, &prefixes)
    try:
        allowed = allowed_by_slot(&prefixes)
        for i in range(n):
            add_peer_lines(answer, &peers[i], allowed.get(peers[i].slot, []))
    finally:
        sodium_free(peers)
        free(prefixes.items)
    return finish(answer, 0)


cdef int add_peer_lines(Answer answer, peer_snapshot* peer, list allowed) except -1:
    answer.add_hex(b"public_key=", peer.key)
    answer.add_hex(b"preshared_key=", peer.psk)
    answer.add(b"protocol_version=1\n")
    if peer.path_socket >= 0:
        answer.add(b"endpoint=%s\n" % endpoint_text(peer.remote[:18]))
    answer.add(b"last_handshake_time_sec=%d\n" % (peer.handshake_ns // 1_000_000_000))
    answer.add(b"last_handshake_time_nsec=%d\n" % (peer.handshake_ns % 1_000_000_000))
    answer.add(b"tx_bytes=%d\nrx_bytes=%d\n" % (peer.tx_bytes, peer.rx_bytes))
    answer.add(b"persistent_keepalive_interval=%d\n" % (peer.keepalive_ns // 1_000_000_000))
    for address, prefix_len in sorted(allowed):
        answer.add(b"allowed_ip=%s/%d\n" % (str(ipaddress.ip_address(address)).encode(), prefix_len))
    return 0


def endpoint_text(bytes remote):
    """18 wire bytes as `1.2.3.4:5` or `[::1]:5`."""
    address = ipaddress.IPv6Address(remote[:16])
    port = int.from_bytes(remote[16:], "big")
    if address.ipv4_mapped is not None:
        return b"%s:%d" % (str(address.ipv4_mapped).encode(), port)
    return b"[%s]:%d" % (str(address).encode(), port)


# --- set ------------------------------------------------------------------------------------------------------------

cdef object answer_set(Lines lines, Datapath datapath, device):
    """Carry out the lines of one set request. Returns the errno, or None where the stream ended in the middle."""
    cdef char* line
    cdef char* equals
    cdef size_t n = 0, name_len
    change = Change(datapath, device)
    code = 0
    while True:
        line = lines.next(&n)
        if line == NULL:
            return None
        if n == 0:
            return code
        if code:
            continue        # the rest of a refused request is read and ignored
        equals = <char*>memchr(line, 61, n)
        if equals == NULL:
            code = errno_codes.EPROTO
            continue
        name_len = equals - line
        try:
            (<Change>change).apply(line[:name_len], equals + 1, n - name_len - 1)
        except Refused as error:
            code = error.args[0]
        except OSError as error:
            code = error.errno or errno_codes.EIO
        except (ValueError, KeyError, OverflowError, WireHubError):
            code = errno_codes.EINVAL
        except MemoryError:
            code = errno_codes.ENOMEM


cdef class Change:
    """One set request: which peer its lines are about, and what each of them does."""

    cdef Datapath datapath
    cdef object device
    cdef bytes peer             # None before the first public_key line
    cdef bint created           # by this request
    cdef bint ignored           # update_only of a peer that is not there, a removed one, or ourselves

    def __cinit__(self, Datapath datapath, device):
        self.datapath = datapath
        self.device = device
        self.peer = None

    cdef int apply(self, bytes name, const char* value, size_t n) except -1:
        if name == b"private_key":
            self.set_private_key(value, n)
        elif name == b"public_key":
            self.select_peer(value, n)
        elif name == b"preshared_key":
            self.set_preshared_key(value, n)
        elif self.peer is None:
            self.apply_to_device(name, value[:n].decode("ascii"))
        else:
            self.apply_to_peer(name, value[:n].decode("ascii"))
        return 0

    cdef int set_private_key(self, const char* value, size_t n) except -1:
        cdef uint8_t raw[32]
        cdef bint good = unhex(raw, value, n)
        try:
            if not good:
                raise Refused(errno_codes.EINVAL)
            secret = None if sodium_is_zero(raw, 32) else secret_key_of(raw)
        finally:
            sodium_memzero(raw, 32)
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
            if not good or self.peer is None:
                raise Refused(errno_codes.EINVAL)
            if not self.ignored:
                self.datapath.put_psk(self.peer, raw)
        finally:
            sodium_memzero(raw, 32)
        return 0

    cdef int apply_to_device(self, bytes name, str value) except -1:
        if name == b"listen_port":
            self.device.bind(bounded(value, 65535))
        elif name == b"fwmark":
            self.device.set_fwmark(bounded(value, 0xFFFFFFFF))
        elif name == b"replace_peers":
            require_true(value)
            for status in self.datapath.peers():
                self.datapath.remove_peer(status.public_key)
        else:
            raise Refused(errno_codes.EINVAL)
        return 0

    cdef int apply_to_peer(self, bytes name, str value) except -1:
        if name in (b"remove", b"update_only"):
            require_true(value)
            if not self.ignored and (name == b"remove" or self.created):
                self.datapath.remove_peer(self.peer)
                self.ignored = True
        elif self.ignored:
            pass
        elif name == b"endpoint":
            remote, v4 = parse_endpoint(value)
            self.datapath.set_path(self.peer, (self.device.socket_for(v4), remote))
        elif name == b"persistent_keepalive_interval":
            self.datapath.set_keepalive(self.peer, bounded(value, 65535))
        elif name == b"replace_allowed_ips":
            require_true(value)
            self.datapath.clear_allowed_ips(self.peer)
        elif name == b"allowed_ip":
            self.change_allowed_ip(value)
        elif name == b"protocol_version":
            if value != "1":
                raise Refused(errno_codes.EINVAL)
        else:
            raise Refused(errno_codes.EINVAL)
        return 0

    cdef int change_allowed_ip(self, str value) except -1:
        network = ipaddress.ip_network(value.removeprefix("-"), strict=False)
        if value.startswith("-"):
            try:
                self.datapath.remove_allowed_ip(self.peer, network.network_address.packed, network.prefixlen)
            except KeyError:
                pass            # not the peer's: nothing to remove, as the kernel's device treats it
        else:
            self.datapath.add_allowed_ip(self.peer, network.network_address.packed, network.prefixlen)
        return 0


cdef object require_true(str value):
    if value != "true":
        raise Refused(errno_codes.EINVAL)


cdef object bounded(str value, object limit):
    if not value.isascii() or not value.isdigit() or int(value) > limit:
        raise Refused(errno_codes.EINVAL)
    return int(value)


cdef object parse_endpoint(str value):
    """`1.2.3.4:5` or `[::1%2]:5` -> 18 wire bytes and whether it is IPv4. Raises ValueError."""
    host, separator, port = value.rpartition(":")
    if not separator or bounded(port, 65535) == 0:
        raise Refused(errno_codes.EINVAL)
    address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]").partition("%")[0])
    packed = address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
    return packed + bounded(port, 65535).to_bytes(2, "big"), address.version == 4
