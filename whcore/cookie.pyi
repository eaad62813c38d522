from typing import Self, final

@final
class CookieKeys:
    """What a responder's mac1s and cookies are made with (WireGuard whitepaper 5.4.4, 5.4.7): HASH(mac1_label
    || public_key || extra) and HASH(cookie_label || public_key)."""

    def __new__(
        cls, mac1_label: bytes, cookie_label: bytes, public_key: bytes, extra: bytes = b""
    ) -> Self: ...

@final
class CookieJar:
    """The initiator's side: stamps messages to one responder, and keeps for 120 s the cookie that it gave."""

    def __new__(cls, keys: CookieKeys) -> Self: ...
    def stamp(self, body: bytes, *, now_ns: int) -> bytes:
        """body || mac1 16 || mac2 16; mac2 is zeros without a fresh cookie."""
    def consume(self, nonce: bytes, sealed: bytes, *, now_ns: int) -> None:
        """Take the cookie out of a reply (nonce 24, sealed 32) to the last stamped message. Raises BadPacket,
        or SystemFailure where no message waits for an answer."""

@final
class CookieChecker:
    """The responder's side. source: 18 bytes, address 16 and port 2. Its secret changes every 120 s, and with
    it all cookies."""

    def __new__(cls, keys: CookieKeys) -> Self: ...
    def check_mac1(self, message: bytes) -> bool: ...
    def check_mac2(self, message: bytes, source: bytes, *, now_ns: int) -> bool: ...
    def make(self, message: bytes, source: bytes, *, now_ns: int) -> tuple[bytes, bytes]:
        """Nonce (24) and sealed cookie (32) of a reply to message."""

@final
class RateLimiter:
    """Token buckets in a table of at most `capacity` (rounded up to a power of two, at least 8) addresses."""

    def __new__(cls, capacity: int, *, tokens_per_s: int, burst: int) -> Self: ...
    def allow(self, address: bytes, *, by_prefix: bool, now_ns: int) -> bool:
        """Take one token. address: 16 bytes; with by_prefix an IPv4 one counts as its /24, an IPv6 one as its
        /48."""
