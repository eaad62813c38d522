from collections.abc import Sequence
from typing import Final, NamedTuple

from whcore.keys import SecretKey
from whcore.sieve import ControlSieve

EVENT_PATH_WANTED: Final = 1  # (kind, peer key): traffic waits and the peer has no path
EVENT_NEW_PATH: Final = 2  # (kind, peer key, socket id, remote 18 bytes, channel): heard off the peer's paths
EVENT_HANDSHAKE: Final = 3  # (kind, peer key): a WireGuard session is up
EVENT_HANDSHAKE_FAILED: Final = 4  # (kind, peer key): REKEY_ATTEMPT_TIME passed
EVENT_TUN_GONE: Final = 5  # (kind,): the interface was deleted
EVENT_PATH_SILENT: Final = 6  # the same fields: nothing is heard on that path, and the other one is used too

PATHS_PRIMARY: Final = 0
PATHS_DUPLICATE: Final = 1
PATHS_SPLIT: Final = 2

Path = (
    tuple[int, bytes]
    | tuple[int, bytes, int]
    | tuple[int, bytes, int, int]
    | tuple[int, bytes, int, int, int]
)
"""Socket id, remote 18 bytes, channel (0: none), largest IP datagram in bytes (0: not known), interface index
(of a link-local address; else 0). Of two paths the smaller MTU holds for both."""

class PeerStatus(NamedTuple):
    public_key: bytes
    has_psk: bool
    path: tuple[int, bytes] | None  # socket id, remote 18 bytes
    last_handshake_unix_ns: int  # 0: never
    rx_bytes: int  # of whole messages: data, keepalives, handshakes
    tx_bytes: int
    rx_packets: int  # the user's alone; each copy on a second path counts
    tx_packets: int
    keepalive_s: int
    managed: bool
    allowed_ips: list[tuple[bytes, int]]  # 4- or 16-byte address, prefix length
    has_session: bool

class ControlDatagram(NamedTuple):
    socket: int
    remote: bytes  # 18 bytes: address 16, port 2 big-endian
    data: bytes
    channel: int = 0  # our leg at the relay `remote`; 0: it came directly
    source: bytes = b""  # for send_control: where an answer should leave from

class RelayStatus(NamedTuple):
    """One channel that we relay; pairs are (opener, target)."""

    legs: tuple[int, int]
    proved: bool  # the target has sent
    packets: tuple[int, int]
    byte_counts: tuple[int, int]
    drops: int
    silent_ns: tuple[int, int]  # since a datagram of that leg was last forwarded, or the channel was opened

class Datapath:
    """A WireGuard device: native threads between one TUN and some UDP sockets (docs/design.md section 3)."""

    def __init__(self, secret_key: SecretKey | None, *, tun_fds: Sequence[int] = (), mtu: int = 1408) -> None:
        """Takes ownership of the fds, one a TUN queue (IFF_NO_PI, with or without IFF_VNET_HDR; none: control
        traffic only). Starts no thread yet."""
    def start(self) -> None: ...
    def close(self) -> None:
        """Stop and join the threads, close every fd, wipe every key. Idempotent."""
    def set_secret_key(self, secret_key: SecretKey | None) -> None: ...
    @property
    def last_timestamp_ns(self) -> int:
        """Unix ns: no initiation had a later timestamp. Give it back after a restart."""
    def set_last_timestamp(self, unix_ns: int) -> None:
        """Of an earlier run with this key: the initiations to peers that are added from now on are later."""
    def set_control_sieve(self, sieve: ControlSieve | None) -> None:
        """Of the ControlSessions that the control datagrams are for: what it knows to be junk, the workers
        drop. Before start()."""
    def add_socket(self, fd: int) -> int:
        """Adopt a bound UDP socket (AF_INET, or AF_INET6 with V6ONLY); returns its id, from 0 up."""
    def remove_socket(self, socket: int) -> None: ...
    def add_peer(
        self, public_key: bytes, *, managed: bool = False, network_secret: bytes | None = None
    ) -> None:
        """managed: its paths are only what set_paths() said (never roams). network_secret: 32 bytes, from
        which the pair's preshared key is derived (docs/protocol.md section 2). Raises InvalidKey, and
        ValueError where it exists."""
    def remove_peer(self, public_key: bytes) -> None: ...
    def has_peer(self, public_key: bytes) -> bool: ...
    def add_allowed_ip(self, public_key: bytes, address: bytes, prefix_len: int) -> None: ...
    def remove_allowed_ip(self, public_key: bytes, address: bytes, prefix_len: int) -> None: ...
    def clear_allowed_ips(self, public_key: bytes) -> None: ...
    def set_keepalive(self, public_key: bytes, seconds: int) -> None: ...
    def set_path(self, public_key: bytes, path: Path | None) -> None:
        """set_paths() with one path or none. Staged packets go out at once."""
    def set_paths(
        self, public_key: bytes, paths: Sequence[Path], *, mode: int = 0, silence_ns: int = 0
    ) -> None:
        """At most two paths. PATHS_PRIMARY: the first; PATHS_DUPLICATE: both; PATHS_SPLIT: each inner flow on
        one. Once silence_ns passed since the first packet on a path that nothing was heard after there (0:
        never), the other one is used too, which EVENT_PATH_SILENT tells; it goes on where the path stays. The
        second path is silent only where flows are split, and the peer's came on it as well. Raises ValueError
        where a socket does not exist or is of the other address family."""
    def clear_silence(self, public_key: bytes) -> None:
        """A path was found to work by other means: silence starts anew, on both; the second one's when the
        peer's packets come there again."""
    def packets_received(self, public_key: bytes) -> int:
        """From the peer so far, of the user's: handshakes and keepalives are none. Raises KeyError."""
    def forget_sources(self, public_key: bytes | None = None) -> None:
        """Let the kernel choose the addresses that data leaves from: of one peer (KeyError), until it is
        heard again; or of all, the refused ones too."""
    def links_changed(self) -> None:
        """What links allow is found out anew: how long a datagram they take."""
    def sources(self) -> list[tuple[bytes, bytes, bytes]]:
        """(public key, remote 18 bytes, source as in ControlDatagram) of each path that data leaves on from
        the address that the peer wrote to."""
    def refuse_sources(self, public_key: bytes, sources: Sequence[bytes]) -> None:
        """Send the peer's data from none of these, at most two, also where it writes to them, until others
        are given. Raises KeyError."""
    def set_mtu(self, mtu: int) -> None:
        """The interface's MTU, to which padding may fill a packet."""
    def take_ipv6(self, taken: bool) -> None:
        """Whether the interface takes IPv6 out of the tunnel, as at the start; else its senders are told that
        it does not."""
    def rekey(self, public_key: bytes) -> None:
        """Start a new handshake now, whatever the age of the session."""
    @property
    def event_fd(self) -> int:
        """Readable while events or control datagrams wait."""
    def drain_events(self) -> list[tuple[object, ...]]: ...
    def drain_control(self, limit: int = 256) -> list[ControlDatagram]: ...
    def send_control(
        self,
        socket: int,
        remote: bytes,
        data: bytes,
        ttl: int = 0,
        *,
        source: bytes = b"",
        whole: bool = False,
    ) -> bool:
        """Send now, from the caller's thread; False (counted) where the socket would block or refused it.
        ttl: IPv4 TTL or IPv6 hop limit, 0: the host's. source: that of a ControlDatagram. whole: it must not
        be cut into fragments on its way."""
    def relay_open(
        self,
        opener: tuple[int, bytes],
        target: tuple[int, bytes],
        *,
        rate: int = 0,
        burst: int = 0,
        quota: int = 0,
        trusted: bool = False,
    ) -> tuple[int, int]:
        """Forward between two clients, each (socket id, remote 18 bytes); returns their 31-bit leg ids.
        rate: bytes/s; burst, quota: bytes; 0: unlimited. trusted: the relay's totals do not apply."""
    def relay_move(self, leg: int, client: tuple[int, bytes]) -> None:
        """The client of a leg is elsewhere now. Raises KeyError where there is no such leg."""
    def relay_limit_channel(
        self, leg: int, *, rate: int = 0, burst: int = 0, quota: int = 0, trusted: bool = False
    ) -> None:
        """Other limits for a channel than relay_open() gave it."""
    def relay_close(self, leg: int) -> None: ...
    def relay_expire(self, silence_ns: int) -> list[tuple[int, int]]:
        """End the channels that forwarded nothing for so long; returns their leg ids."""
    def relay_limit(self, *, rate: int = 0, burst: int = 0, day_quota: int = 0) -> None:
        """Limits of all channels together that are not trusted."""
    def relay_status(self, leg: int) -> RelayStatus: ...
    def peers(self) -> list[PeerStatus]: ...
    def counters(self) -> dict[str, int]:
        """Packets, bytes and drops by reason."""
