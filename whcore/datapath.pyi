from collections.abc import Sequence
from typing import Final, NamedTuple

from whcore.keys import SecretKey

EVENT_PATH_WANTED: Final = 1  # (kind, peer key): traffic waits and the peer has no path
EVENT_NEW_PATH: Final = 2  # (kind, peer key, socket id, remote 18 bytes): authenticated packet off the peer's path
EVENT_HANDSHAKE: Final = 3  # (kind, peer key): a WireGuard session is up
EVENT_HANDSHAKE_FAILED: Final = 4  # (kind, peer key): REKEY_ATTEMPT_TIME passed
EVENT_TUN_GONE: Final = 5  # (kind,): the interface was deleted

class PeerStatus(NamedTuple):
    public_key: bytes
    has_psk: bool
    path: tuple[int, bytes] | None  # socket id, remote 18 bytes
    last_handshake_unix_ns: int  # 0: never
    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int
    keepalive_s: int
    managed: bool
    allowed_ips: list[tuple[bytes, int]]  # 4- or 16-byte address, prefix length
    has_session: bool

class ControlDatagram(NamedTuple):
    socket: int
    remote: bytes  # 18 bytes: address 16, port 2 big-endian
    data: bytes

class Datapath:
    """A WireGuard device: native threads between one TUN and some UDP sockets (docs/design.md section 3)."""

    def __init__(self, secret_key: SecretKey | None, *, tun_fds: Sequence[int] = (), mtu: int = 1408) -> None:
        """Takes ownership of the fds (TUN with IFF_NO_PI; none: control traffic only). Starts no thread yet."""
    def start(self) -> None: ...
    def close(self) -> None:
        """Stop and join the threads, close every fd, wipe every key. Idempotent."""
    def set_secret_key(self, secret_key: SecretKey | None) -> None: ...
    def add_socket(self, fd: int) -> int:
        """Adopt a bound, non-blocking UDP socket (AF_INET, or AF_INET6 with V6ONLY); returns its id, from 0 up."""
    def remove_socket(self, socket: int) -> None: ...
    def add_peer(self, public_key: bytes, *, managed: bool = False) -> None:
        """managed: its path is only what set_path() said (never roams). Raises InvalidKey, ValueError where it exists."""
    def remove_peer(self, public_key: bytes) -> None: ...
    def has_peer(self, public_key: bytes) -> bool: ...
    def add_allowed_ip(self, public_key: bytes, address: bytes, prefix_len: int) -> None: ...
    def remove_allowed_ip(self, public_key: bytes, address: bytes, prefix_len: int) -> None: ...
    def clear_allowed_ips(self, public_key: bytes) -> None: ...
    def set_keepalive(self, public_key: bytes, seconds: int) -> None: ...
    def set_path(self, public_key: bytes, path: tuple[int, bytes] | None) -> None:
        """(socket id, remote 18 bytes). Staged packets go out at once."""
    def rekey(self, public_key: bytes) -> None:
        """Start a new handshake now, whatever the age of the session."""
    @property
    def event_fd(self) -> int:
        """Readable while events or control datagrams wait."""
    def drain_events(self) -> list[tuple[object, ...]]: ...
    def drain_control(self, limit: int = 256) -> list[ControlDatagram]: ...
    def send_control(self, socket: int, remote: bytes, data: bytes) -> bool:
        """Send now, from the caller's thread; False (counted) where the socket would block or refused."""
    def peers(self) -> list[PeerStatus]: ...
    def counters(self) -> dict[str, int]:
        """Packets, bytes and drops by reason."""
