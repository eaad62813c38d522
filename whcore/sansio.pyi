from typing import Final

from whcore.keys import SecretKey

INITIATE: Final = 1
KEEPALIVE: Final = 2
GIVE_UP: Final = 4
ZERO: Final = 8

class Tunnel:
    """One WireGuard peer without I/O, threads or clock, over the data plane's own code.

    For tests, simulations and programs that bring their own sockets. Times are ns. One thread at a time.
    Datagrams that do not verify raise BadPacket and change nothing.
    """

    def __init__(self, secret_key: SecretKey, peer: bytes, *, psk: bytes | None = None) -> None:
        """psk: 32 bytes, or None. Raises InvalidKey for a peer key that cannot be used."""
    def initiate(self, *, now_ns: int, wall_ns: int) -> bytes:
        """A handshake initiation, 148 bytes (whitepaper 5.4.2)."""
    def may_initiate(self, now_ns: int) -> bool:
        """Whether REKEY_TIMEOUT has passed since our last handshake message."""
    def answer(self, initiation: bytes, *, now_ns: int) -> bytes:
        """The response to an initiation, 92 bytes (5.4.3)."""
    def complete(self, response: bytes, *, now_ns: int, wall_ns: int) -> None:
        """Take the response to our initiation: the session is up."""
    def seal(self, packet: bytes, *, now_ns: int) -> bytes | None:
        """A data message (5.4.6) with packet, b"" for a keepalive; None where a handshake is needed first."""
    def open(self, datagram: bytes, *, now_ns: int, wall_ns: int) -> bytes:
        """The plaintext of a data message, with its padding."""
    def expire(self, now_ns: int) -> tuple[int, int | None]:
        """(due actions: INITIATE | KEEPALIVE | GIVE_UP | ZERO, the next deadline in ns or None) (6)."""
    def set_keepalive(self, seconds: int, *, now_ns: int) -> None: ...
    def wants_rekey(self) -> bool:
        """Whether traffic since the last call asked for a new handshake (6.2)."""
    def skip_messages(self, n: int) -> None:
        """Advance the current keypair's send counter, as if n messages had been sent."""
    @property
    def session_count(self) -> int:
        """Keypairs held: current, previous, next."""
