from collections.abc import Iterable
from typing import Final, Literal, Self, final

from whcore.keys import SecretKey
from whcore.sieve import ControlSieve

DROPPED: Final = 0
REQUEST: Final = 1
RESPONSE: Final = 2
DATA: Final = 3
COOKIE_REPLY: Final = 4
COOKIE_TAKEN: Final = 5

Opened = (
    tuple[Literal[0], str]  # (DROPPED, reason)
    | tuple[Literal[1], bytes, int, bytes]  # (REQUEST, peer, pending handle, payload) from an INIT
    | tuple[Literal[2], bytes, bytes]  # (RESPONSE, peer, payload): our handshake completed
    | tuple[
        Literal[3], bytes, bytes, bool
    ]  # (DATA, peer, payload, confirmed: `next` keys just became current)
    | tuple[Literal[4], bytes]  # (COOKIE_REPLY, datagram to send back to the source)
    | tuple[Literal[5], bytes, bytes]  # (COOKIE_TAKEN, peer, our INIT again, now with mac2)
)

@final
class ControlSessions:
    """Control sessions of one node (docs/protocol.md section 2), sans-IO.

    Times are ns: now_ns monotonic, wall_ns Unix. `source` is the 18-byte address a datagram came from (16
    address, 2 big-endian port). Payloads are the plaintext without length and padding. Everything kept is
    bounded.
    """

    def __new__(
        cls,
        secret_key: SecretKey,
        namespace: bytes,
        *,
        network_secret: bytes | None = None,
        workbit: int = 0,
        max_sessions: int = 4096,
        last_timestamp_ns: int = 0,
    ) -> Self: ...
    @property
    def sieve(self) -> ControlSieve:
        """For the data plane that the datagrams come through (Datapath.set_control_sieve)."""
    @property
    def last_timestamp_ns(self) -> int:
        """The last Unix time used in an INIT; give it back after a restart."""
    def set_exempt_keys(self, keys: Iterable[bytes]) -> None:
        """Keys of the network file: no workbit is asked of them, and their sessions are evicted last."""
    def initiate(self, peer: bytes, payload: bytes, *, pad_to: int, now_ns: int, wall_ns: int) -> bytes:
        """An INIT; it replaces a handshake in flight to that peer, keeping its cookie. pad_to: plaintext size
        n, at most 1,052; where the payload needs more, the next multiple of 16. Raises ValueError where that
        is too much, InvalidKey for a bad peer key or our own, SystemFailure once closed."""
    def in_flight(self, peer: bytes) -> bool: ...
    def has_session(self, peer: bytes) -> bool:
        """Whether seal() would work now."""
    def handshake_hashes(self, peer: bytes) -> tuple[bytes, ...]:
        """Of the session's keys in use, 32 bytes, and of those that they replaced, while these still open.
        Both ends have the same: a proof over one counts in this session only (docs/protocol.md section 9)."""
    def needs_rekey(self, peer: bytes, now_ns: int) -> bool:
        """We initiated the session and it is due for a new INIT (30 min or 2^60 messages)."""
    def respond(self, pending: int, payload: bytes, *, now_ns: int) -> bytes | None:
        """The RESP to a REQUEST, which ends the handle. None where that is stale (3 s) or the answer would be
        longer than the request: then a shorter one may still be given."""
    def response_capacity(self, pending: int) -> int:
        """The longest payload that respond() takes for this handle; 0 if stale."""
    def seal(self, peer: bytes, payload: bytes, *, now_ns: int, pad_to: int = 32) -> bytes | None:
        """A DATA datagram, or None without a usable session. pad_to: least plaintext size, at most 1,436.
        Raises ValueError where that is more, or the payload is over the 1,166 bytes that fit otherwise."""
    def open(self, datagram: bytes, source: bytes, *, now_ns: int, wall_ns: int) -> Opened:
        """Judge one datagram of types 01 to 04 (others are DROPPED). Never raises for what it contains;
        ValueError where source has not 18 bytes. wall_ns: judged by nothing so far, peers' clocks may be
        wrong. An INIT is answered with a cookie under load, and where its network has sent too many without
        one."""
    def drop(self, peer: bytes) -> None:
        """Forget the session and any handshake in flight."""
    def expire(self, now_ns: int) -> None:
        """Remove what is idle or over-age; call it every few seconds."""
    def counters(self) -> dict[str, int]:
        """Sessions, pending handshakes, and datagrams dropped by reason."""
    def close(self) -> None:
        """Wipe all keys."""
