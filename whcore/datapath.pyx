"""The Python handle on a data plane. Every call releases the interpreter lock before it waits for the control lock,
and nothing here runs Python code under the control lock: a busy interpreter must not hold up a handshake."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from whcore.aead cimport aead_choose_engine
from whcore.cookie cimport cookie_checker_init, cookie_keys, cookie_keys_init
from whcore.device cimport (
    PATHS_DUPLICATE as BOTH_PATHS, PATHS_PRIMARY as FIRST_PATH, PATHS_SPLIT as SPLIT_PATHS,
    MAX_DATAGRAM, MAX_PACKET, MAX_SOCKETS, MAX_WORKERS, RETIRED_SOCKET, device_destroy, device_init, reclaim,
    retire_later, wh_device, wh_path, wh_paths,
)
from whcore.device_control cimport new_paths, renew_tunnels
from whcore.errors cimport WH_OK
from whcore.forwarder cimport forward_limits
from whcore.handshaker cimport handshaker_free, handshaker_init, handshaker_start
from whcore.kernel cimport (
    SO_DOMAIN, SOL_SOCKET, close, eventfd_write, getsockopt, pthread_join, pthread_mutex_lock,
    pthread_mutex_unlock, socklen_t, wh_load_i64, wh_store_i64, wh_store_ptr, wh_store_u32,
)
from whcore.keys cimport SecretKey, secret_key_of
from whcore.peer_control cimport (
    adopt_paths, allow_prefix, change_keepalive, count_received, derive_psk, disallow_all, disallow_prefix, drop_peer, end_silence,
    is_peer, new_peer, set_psk, start_handshake,
)
from whcore.peer_paths cimport path_fill
from whcore.relaying cimport (
    channel_status, close_channel, expire_channels, limit_channel, limit_channels, move_leg, open_channel,
)
from whcore.sending cimport send_control_datagram
from whcore.snapshot cimport peer_statuses, sum_counters
from whcore.sources cimport forget_all_sources, forget_sources_of, known_sources, refuse_sources, retry_segments
from whcore.sieve cimport ControlSieve
from whcore.sodium cimport sodium_memzero
from whcore.udp cimport wh_source, wh_udp_prepare
from whcore.upcalls cimport source_of, take_all_events, take_datagrams
from whcore.worker cimport worker_free, worker_init, worker_start, worker_unwatch, worker_watch

from whcore.errors import SystemFailure
from whcore.relaying import RelayStatus
from whcore.snapshot import COUNTER_NAMES, PeerStatus
from whcore.upcalls import (
    EVENT_HANDSHAKE, EVENT_HANDSHAKE_FAILED, EVENT_NEW_PATH, EVENT_PATH_SILENT, EVENT_PATH_WANTED, EVENT_TUN_GONE,
    ControlDatagram,
)

PATHS_PRIMARY = <int>FIRST_PATH
PATHS_DUPLICATE = <int>BOTH_PATHS
PATHS_SPLIT = <int>SPLIT_PATHS

cdef int64_t SECOND = 1_000_000_000


cdef class Datapath:
    """A WireGuard device: native threads between TUN queues and UDP sockets.

    One thread of the caller's uses it at a time. close() must be called: dropping the last reference does not join
    threads."""

    def __cinit__(self):
        self.dev = NULL

    def __init__(self, SecretKey secret_key, *, tun_fds=(), int mtu=1408):
        cdef int i, fd
        if self.dev != NULL:
            raise RuntimeError("already initialised")
        if len(tun_fds) > MAX_WORKERS:
            raise ValueError(f"at most {MAX_WORKERS} TUN queues")
        if not 576 <= mtu <= 65456:
            raise ValueError(f"MTU {mtu} is not in 576..65456")
        self.dev = <wh_device*>calloc(1, sizeof(wh_device))
        if self.dev == NULL:
            raise MemoryError
        if device_init(self.dev, mtu) != WH_OK:
            free(self.dev)
            self.dev = NULL
            raise MemoryError
        try:
            aead_choose_engine()
            for i, fd in enumerate(tuple(tun_fds) or (-1,)):
                if worker_init(&self.dev.workers[i], self.dev, i, fd) != WH_OK:
                    raise MemoryError
                self.dev.worker_count += 1
            if handshaker_init(self.dev) != WH_OK:
                raise MemoryError
            self.set_secret_key(secret_key)
        except BaseException:
            for fd in tuple(tun_fds)[self.dev.worker_count:]:
                close(fd)
            self.close()
            raise

    def __dealloc__(self):
        # Threads may still run: without close() the memory stays theirs.
        if self.dev != NULL and not self.started:
            destroy(self.dev)
            self.dev = NULL

    cdef wh_device* device(self) except NULL:
        if self.dev == NULL:
            raise ValueError("the data plane is closed")
        return self.dev

    def start(self):
        """Start the threads. Raises SystemFailure where the system refuses one."""
        cdef wh_device* dev = self.device()
        cdef int i, rc
        if self.started:
            return
        self.started = True
        rc = handshaker_start(dev)
        for i in range(dev.worker_count):
            if rc == 0:
                rc = worker_start(&dev.workers[i])
        if rc:
            self.close()
            raise SystemFailure(f"cannot start a thread (errno {rc})", hint="raise the limit of processes (ulimit -u)")

    def close(self):
        """Stop and join the threads, close every fd (the TUN's too), wipe every key. Idempotent."""
        cdef wh_device* dev = self.dev
        if dev == NULL:
            return
        self.dev = NULL
        with nogil:
            wh_store_u32(&dev.stopping, 1)
            eventfd_write(dev.stop_fd, 1)
            eventfd_write(dev.kick_fd, 1)
            stop(dev)
            destroy(dev)
        self.secret = None

    # --- identity and sockets ---

    def set_secret_key(self, SecretKey secret_key):
        """Replace the device's static key (None: none). All sessions end; a peer with our own key emits nothing."""
        cdef wh_device* dev = self.device()
        cdef cookie_keys keys
        cdef const uint8_t* secret = NULL
        if secret_key is not None:
            secret_key.check_open()
            secret_key = secret_key_of(secret_key.key)      # ours: the caller may close its own
            secret = secret_key.key
            public = secret_key.public_key
        else:
            public = bytes(32)
        cdef const uint8_t* public_bytes = public
        with nogil:
            pthread_mutex_lock(&dev.control_lock)
            dev.identity.secret = secret
            memcpy(dev.identity.public, public_bytes, 32)
            cookie_keys_init(&keys, "mac1----", "cookie--", public_bytes, NULL, 0)
            cookie_checker_init(&dev.checker, &keys)
            renew_tunnels(dev)
            pthread_mutex_unlock(&dev.control_lock)
        self.secret = secret_key

    @property
    def last_timestamp_ns(self):
        """Unix ns: no initiation had a later timestamp. Give it back after a restart."""
        return wh_load_i64(&self.device().last_stamp_ns)

    def set_last_timestamp(self, int64_t unix_ns):
        """Of an earlier run with this key: initiations to peers that are added from now on are later."""
        cdef wh_device* dev = self.device()
        with nogil:
            pthread_mutex_lock(&dev.control_lock)
            wh_store_i64(&dev.last_stamp_ns, max(dev.last_stamp_ns, unix_ns))
            pthread_mutex_unlock(&dev.control_lock)

    def set_control_sieve(self, ControlSieve sieve):
        """Of ControlSessions: what it knows to be junk is dropped by the workers. Before start()."""
        cdef wh_device* dev = self.device()
        if self.started:
            raise RuntimeError("the data plane runs already")
        self.sieve = sieve
        wh_store_ptr(&dev.sieve, NULL if sieve is None else sieve.s)

    def add_socket(self, int fd):
        """Adopt a bound UDP socket; returns its id. Raises ValueError where the table (64) is full."""
        cdef wh_device* dev = self.device()
        cdef int number, i, family = 0
        cdef bint refused = False
        cdef socklen_t size = sizeof(int)
        if getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) != 0:
            raise ValueError(f"fd {fd} is not a socket")
        for number in range(MAX_SOCKETS):
            if dev.sockets[number].fd < 0:
                break
        else:
            raise ValueError("too many sockets")
        with nogil:
            pthread_mutex_lock(&dev.control_lock)
            dev.sockets[number].family = family
            dev.sockets[number].segment_limit = MAX_DATAGRAM if wh_udp_prepare(fd, family) else 0
            dev.sockets[number].fd = fd
            pthread_mutex_unlock(&dev.control_lock)
            for i in range(dev.worker_count):
                refused = refused or worker_watch(&dev.workers[i], number) != 0
        if refused:
            self.remove_socket(number)
            raise SystemFailure("the system does not watch one socket more", hint="raise the limit of open files")
        return number

    def remove_socket(self, int socket):
        """Close a socket once no worker uses it. Paths over it send nothing until they are set anew."""
        cdef wh_device* dev = self.device()
        cdef int i
        if not 0 <= socket < MAX_SOCKETS or dev.sockets[socket].fd < 0:
            raise ValueError(f"no socket {socket}")
        with nogil:
            for i in range(dev.worker_count):
                worker_unwatch(&dev.workers[i], socket)
            pthread_mutex_lock(&dev.control_lock)
            retire_later(dev, RETIRED_SOCKET, NULL, dev.sockets[socket].fd)
            dev.sockets[socket].fd = -1
            reclaim(dev, False)
            pthread_mutex_unlock(&dev.control_lock)
            eventfd_write(dev.kick_fd, 1)

    # --- peers ---

    def add_peer(self, bytes public_key, *, bint managed=False, bytes network_secret=None):
        if self.secret is not None and public_key == self.secret.public_key:
            raise ValueError("the peer's key is this device's own")
        cdef uint8_t psk[32]
        memset(psk, 0, 32)
        if network_secret is not None:
            derive_psk(psk, network_secret, self.secret.public_key, public_key)
        try:
            new_peer(self.device(), public_key, managed, psk)
        finally:
            sodium_memzero(psk, 32)

    def has_peer(self, bytes public_key):
        return is_peer(self.device(), public_key)

    cdef int put_psk(self, bytes public_key, const uint8_t* psk) except -1:
        """Use 32 bytes as the preshared key of the next handshakes; zeros are WireGuard's for none."""
        return set_psk(self.device(), public_key, psk)

    def remove_peer(self, bytes public_key):
        """Raises KeyError, as every call that names a peer, where there is none."""
        drop_peer(self.device(), public_key)

    def add_allowed_ip(self, bytes public_key, bytes address, int prefix_len):
        """Route a prefix (4- or 16-byte address) to a peer, taking it from another one if need be."""
        allow_prefix(self.device(), public_key, address, prefix_len)

    def remove_allowed_ip(self, bytes public_key, bytes address, int prefix_len):
        """Raises KeyError where the prefix is not the peer's."""
        disallow_prefix(self.device(), public_key, address, prefix_len)

    def clear_allowed_ips(self, bytes public_key):
        disallow_all(self.device(), public_key)

    def set_keepalive(self, bytes public_key, int seconds):
        """Persistent keepalive, 0 to 65535 s; 0 turns it off. Turning it on sends one at once."""
        if not 0 <= seconds <= 65535:
            raise ValueError(f"keepalive {seconds} is not in 0..65535 s")
        change_keepalive(self.device(), public_key, seconds * SECOND)

    def set_path(self, bytes public_key, path):
        """set_paths() with one path or None."""
        self.set_paths(public_key, () if path is None else (path,))

    def set_paths(self, bytes public_key, paths, *, int mode=0, int64_t silence_ns=0):
        """At most two of (socket id, remote 18 bytes[, channel[, MTU in bytes[, link]]]). Staged packets go out at once.

        mode: PATHS_PRIMARY (the first), PATHS_DUPLICATE (both) or PATHS_SPLIT (each inner flow on one of them). With
        silence_ns, from that long after the first packet that nothing was heard on its path for, the other path is used
        too, until something is heard there, or clear_silence(). Silence goes on where the path stays. The second is
        silent only where flows are split, and the peer's came on it as well. Handshakes begin on both. Raises
        ValueError where a socket does not exist or is of the other address family.
        """
        cdef wh_paths* fresh = NULL
        if len(paths) > 2 or not 0 <= mode <= 2 or silence_ns < 0:
            raise ValueError("at most two paths, a mode of 0 to 2, and a silence that is not negative")
        if paths:
            fresh = new_paths(self.device(), paths)
            fresh.mode = mode
            fresh.silence_ns = silence_ns
        adopt_paths(self.device(), public_key, fresh)

    def clear_silence(self, bytes public_key):
        """A path was found to work by other means (a PROBE was answered): silence starts anew, on both; the second
        one's when the peer's packets come there again."""
        end_silence(self.device(), public_key)

    def packets_received(self, bytes public_key):
        """From the peer, of the user's."""
        cdef uint64_t packets
        count_received(self.device(), public_key, &packets)
        return packets

    def rekey(self, bytes public_key):
        """Start a new handshake now, whatever the age of the session."""
        start_handshake(self.device(), public_key)

    # --- this host ---

    def forget_sources(self, bytes public_key=None):
        """Let the kernel choose the addresses that data leaves from; of one peer, or of all, the refused ones too."""
        cdef wh_device* dev = self.device()
        if public_key is not None:
            forget_sources_of(dev, public_key)
            return
        with nogil:
            pthread_mutex_lock(&dev.control_lock)
            forget_all_sources(dev)
            retry_segments(dev)
            pthread_mutex_unlock(&dev.control_lock)

    def links_changed(self):
        """What links allow is found out anew."""
        cdef wh_device* dev = self.device()
        with nogil:
            pthread_mutex_lock(&dev.control_lock)
            retry_segments(dev)
            pthread_mutex_unlock(&dev.control_lock)

    def sources(self):
        """(public key, remote 18 bytes, source as in ControlDatagram) of each path whose peer wrote to us lately."""
        return known_sources(self.device())

    def refuse_sources(self, bytes public_key, sources):
        """Send the peer's data from none of these, at most two, also where it writes to them; () ends that."""
        refuse_sources(self.device(), public_key, sources)

    def set_mtu(self, int mtu):
        """The interface's MTU, to which padding may fill a packet."""
        if not 576 <= mtu <= MAX_PACKET:
            raise ValueError(f"MTU {mtu} is not in 576..{MAX_PACKET}")
        self.device().mtu = mtu

    def take_ipv6(self, bint taken):
        """Whether the interface takes IPv6 out of the tunnel; else its senders are told that it does not."""
        self.device().without_ipv6 = not taken

    # --- relaying (docs/protocol.md section 8) ---

    def relay_open(self, opener, target, *, uint64_t rate=0, uint32_t burst=0, uint64_t quota=0, bint trusted=False):
        """Forward between two clients, each (socket id, remote 18 bytes). Returns the opener's and the target's leg id.

        rate, burst: bytes/s and bytes; quota: bytes in the channel's life; 0: unlimited. trusted: the relay's totals do
        not apply. Raises ValueError for bad clients, SystemFailure where all channels are taken.
        """
        cdef forward_limits limits
        limits.rate, limits.burst, limits.quota, limits.trusted = rate, burst, quota, trusted
        return open_channel(self.device(), opener, target, &limits)

    def relay_move(self, uint32_t leg, client):
        """The client of a leg is at (socket id, remote 18 bytes) now. Raises KeyError where there is no such leg."""
        move_leg(self.device(), leg, client)

    def relay_limit_channel(self, uint32_t leg, *, uint64_t rate=0, uint32_t burst=0, uint64_t quota=0, bint trusted=False):
        """Other limits for the channel of a leg, as those of relay_open(). Raises KeyError where there is none."""
        cdef forward_limits limits
        limits.rate, limits.burst, limits.quota, limits.trusted = rate, burst, quota, trusted
        limit_channel(self.device(), leg, &limits)

    def relay_close(self, uint32_t leg):
        """End the channel of a leg. Raises KeyError where there is none."""
        close_channel(self.device(), leg)

    def relay_expire(self, int64_t silence_ns):
        """End the channels that forwarded nothing for so long. Returns their leg ids, the opener's and the target's."""
        return expire_channels(self.device(), silence_ns)

    def relay_limit(self, *, uint64_t rate=0, uint32_t burst=0, uint64_t day_quota=0):
        """Limits of all channels together that are not trusted: bytes/s, bytes, bytes in 24 hours; 0: unlimited."""
        limit_channels(self.device(), rate, burst, day_quota)

    def relay_status(self, uint32_t leg):
        """RelayStatus of a leg's channel. Raises KeyError where there is none."""
        return channel_status(self.device(), leg)

    # --- events and control datagrams ---

    @property
    def event_fd(self):
        return self.device().event_fd

    def drain_events(self):
        """All events that wait, oldest first per thread."""
        return take_all_events(self.device())

    def drain_control(self, int limit=256):
        """Up to limit control datagrams; where more wait, event_fd stays readable."""
        return take_datagrams(self.device(), limit)

    def send_control(self, int socket, bytes remote, bytes data, int ttl=0, *, bytes source=b"", bint whole=False):
        """Send one datagram now, without blocking. False (counted) where the socket would block or refused.

        ttl: its IPv4 TTL or IPv6 hop limit, 1 to 255; 0: the host's. source: that of a ControlDatagram, to leave from the
        address that it was sent to; while this host does not have that address any more, from any. whole: it must not be
        cut into fragments, as long ones are on IPv4 paths that do not carry them.
        """
        cdef wh_device* dev = self.device()
        cdef const uint8_t* raw = data
        cdef const uint8_t* to = remote
        cdef size_t n = len(data)
        cdef wh_path path
        cdef bint sent = False
        if len(remote) != 18 or not 0 <= ttl <= 255:
            raise ValueError("a remote address has 18 bytes, a TTL is at most 255")
        cdef wh_source leave_from = source_of(source)
        if path_fill(dev, &path, socket, to, 0, leave_from.ifindex) == WH_OK:
            path.source = leave_from
            with nogil:
                sent = send_control_datagram(dev, &path, raw, n, <uint8_t>ttl, whole)
        if not sent:
            dev.control_refused += 1
            return False
        dev.control_sent += 1
        return True

    # --- status ---

    def peers(self):
        """A PeerStatus for each peer."""
        return peer_statuses(self.device())

    def counters(self):
        """Packets by kind and drops by reason since start, summed over threads."""
        return sum_counters(self.device())


cdef void stop(wh_device* dev) noexcept nogil:
    cdef int i
    if dev.timer.running:
        pthread_join(dev.timer.thread, NULL)
        dev.timer.running = 0
    for i in range(dev.worker_count):
        if dev.workers[i].running:
            pthread_join(dev.workers[i].thread, NULL)
            dev.workers[i].running = 0


cdef void destroy(wh_device* dev) noexcept nogil:
    cdef int i
    for i in range(dev.worker_count):
        if dev.workers[i].tun_fd >= 0:
            close(dev.workers[i].tun_fd)
        worker_free(&dev.workers[i])
    handshaker_free(dev)
    device_destroy(dev)
    free(dev)
