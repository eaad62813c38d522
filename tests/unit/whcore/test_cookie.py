"""mac1, mac2 and cookie replies against hashlib and libnacl; the rate limiter against a slow oracle."""

import hashlib
import ipaddress

import libnacl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whcore.cookie import CookieChecker, CookieJar, CookieKeys, RateLimiter
from whcore.errors import BadPacket, SystemFailure

deterministic = settings(derandomize=True, deadline=None, max_examples=60)

NS = 1_000_000_000
PUBLIC_KEY = bytes(range(32))
SOURCE = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]) + b"\xf2\x00"
OTHER_SOURCE = SOURCE[:-1] + b"\x01"


def wireguard_keys() -> CookieKeys:
    return CookieKeys(b"mac1----", b"cookie--", PUBLIC_KEY)


def address(text: str) -> bytes:
    ip = ipaddress.ip_address(text)
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


@deterministic
@given(body=st.binary(max_size=300), extra=st.sampled_from([b"", bytes(32), b"s" * 32]))
def test_mac1_is_what_the_whitepaper_says(body: bytes, extra: bytes) -> None:
    message = CookieJar(CookieKeys(b"wh2 mac1", b"wh2 cookie", PUBLIC_KEY, extra)).stamp(body, now_ns=NS)
    mac1_key = hashlib.blake2s(b"wh2 mac1" + PUBLIC_KEY + extra).digest()
    assert message == body + hashlib.blake2s(body, key=mac1_key, digest_size=16).digest() + bytes(16)


@deterministic
@given(body=st.binary(max_size=200), position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_mac1_fails_after_any_flipped_bit(body: bytes, position: int, bit: int) -> None:
    message = bytearray(CookieJar(wireguard_keys()).stamp(body, now_ns=NS))
    checker = CookieChecker(wireguard_keys())
    assert checker.check_mac1(bytes(message))
    message[position % (len(message) - 16)] ^= 1 << bit
    assert not checker.check_mac1(bytes(message))


def test_messages_too_short_for_macs_fail() -> None:
    checker = CookieChecker(wireguard_keys())
    for n in range(32):
        assert not checker.check_mac1(bytes(n))
        assert not checker.check_mac2(bytes(n), SOURCE, now_ns=NS)


def test_a_cookie_reply_opens_with_libnacl_and_makes_the_mac2() -> None:
    jar, checker = CookieJar(wireguard_keys()), CookieChecker(wireguard_keys())
    message = jar.stamp(b"body", now_ns=NS)
    nonce, sealed = checker.make(message, SOURCE, now_ns=NS)
    cookie_key = hashlib.blake2s(b"cookie--" + PUBLIC_KEY).digest()
    mac1 = message[4:20]
    cookie = libnacl.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, mac1, nonce, cookie_key)
    jar.consume(nonce, sealed, now_ns=NS)
    again = jar.stamp(b"body", now_ns=NS)
    assert again[:20] == message[:20]
    assert again[20:] == hashlib.blake2s(again[:20], key=cookie, digest_size=16).digest()


def test_mac2_is_bound_to_the_source_and_expires_with_the_secret() -> None:
    jar, checker = CookieJar(wireguard_keys()), CookieChecker(wireguard_keys())
    now = 1000 * NS
    jar.consume(*checker.make(jar.stamp(b"x", now_ns=now), SOURCE, now_ns=now), now_ns=now)
    message = jar.stamp(b"y", now_ns=now)
    assert checker.check_mac2(message, SOURCE, now_ns=now + 119 * NS)
    assert not checker.check_mac2(message, OTHER_SOURCE, now_ns=now + 119 * NS)
    assert not checker.check_mac2(message, SOURCE, now_ns=now + 120 * NS)
    assert not checker.check_mac2(message, SOURCE, now_ns=now)  # the old secret is gone for good


def test_a_cookie_is_used_for_two_minutes() -> None:
    jar, checker = CookieJar(wireguard_keys()), CookieChecker(wireguard_keys())
    jar.consume(*checker.make(jar.stamp(b"x", now_ns=0), SOURCE, now_ns=0), now_ns=0)
    assert jar.stamp(b"y", now_ns=120 * NS - 1)[-16:] != bytes(16)
    assert jar.stamp(b"y", now_ns=120 * NS + 1)[-16:] == bytes(16)


def test_only_one_reply_to_the_last_message_is_taken() -> None:
    jar, checker = CookieJar(wireguard_keys()), CookieChecker(wireguard_keys())
    with pytest.raises(SystemFailure):
        jar.consume(bytes(24), bytes(32), now_ns=NS)
    old = checker.make(jar.stamp(b"old", now_ns=NS), SOURCE, now_ns=NS)
    new = checker.make(jar.stamp(b"new", now_ns=NS), SOURCE, now_ns=NS)
    with pytest.raises(BadPacket):
        jar.consume(*old, now_ns=NS)
    jar.consume(*new, now_ns=NS)
    with pytest.raises(SystemFailure):
        jar.consume(*new, now_ns=NS)


def test_fields_of_a_wrong_length_are_refused() -> None:
    jar, checker = CookieJar(wireguard_keys()), CookieChecker(wireguard_keys())
    message = jar.stamp(b"x", now_ns=NS)
    with pytest.raises(BadPacket):
        jar.consume(bytes(23), bytes(32), now_ns=NS)
    with pytest.raises(BadPacket):
        checker.make(message, SOURCE[:-1], now_ns=NS)
    with pytest.raises(BadPacket):
        checker.make(bytes(31), SOURCE, now_ns=NS)


class SlowBucket:
    """A token bucket in fractions: tokens refill continuously up to burst."""

    def __init__(self, tokens_per_s: int, burst: int) -> None:
        self.token_ns = NS // tokens_per_s
        self.full_ns = self.token_ns * burst
        self.credit_ns, self.at = self.full_ns, 0

    def allow(self, now_ns: int) -> bool:
        self.credit_ns = min(self.full_ns, self.credit_ns + now_ns - self.at)
        self.at = now_ns
        if self.credit_ns < self.token_ns:
            return False
        self.credit_ns -= self.token_ns
        return True


@deterministic
@given(
    tokens_per_s=st.integers(1, 50),
    burst=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, NS // 5)), max_size=150),
)
def test_limiter_agrees_with_one_bucket_an_address(
    tokens_per_s: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    limiter = RateLimiter(64, tokens_per_s=tokens_per_s, burst=burst)
    oracles = [SlowBucket(tokens_per_s, burst) for _ in range(3)]
    now = NS
    for who, elapsed in steps:
        now += elapsed
        allowed = limiter.allow(address(f"192.0.2.{who}"), by_prefix=False, now_ns=now)
        assert allowed == oracles[who].allow(now)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:1::1", "2001:db8:1:ffff::2", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("::1:2:3", "::ffff:1.2.3.4", False),
    ],
)
def test_a_network_shares_one_bucket(first: str, second: str, together: bool) -> None:
    limiter = RateLimiter(64, tokens_per_s=1, burst=1)
    assert limiter.allow(address(first), by_prefix=True, now_ns=NS)
    assert limiter.allow(address(second), by_prefix=True, now_ns=NS) is not together
    assert limiter.allow(address(second), by_prefix=False, now_ns=NS) is True


def test_a_flood_from_many_networks_does_not_free_a_limited_one() -> None:
    limiter = RateLimiter(64, tokens_per_s=1, burst=3)
    victim = address("192.0.2.1")
    while limiter.allow(victim, by_prefix=True, now_ns=NS):
        pass
    for i in range(10_000):
        limiter.allow(address(f"2001:db8:{i:x}::1"), by_prefix=True, now_ns=NS)
    assert not limiter.allow(victim, by_prefix=True, now_ns=NS)


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    limiter = RateLimiter(8, tokens_per_s=1, burst=1)
    assert limiter.allow(address("192.0.2.1"), by_prefix=True, now_ns=10 * NS)
    assert not limiter.allow(address("192.0.2.1"), by_prefix=True, now_ns=5 * NS)
    assert not limiter.allow(address("192.0.2.1"), by_prefix=True, now_ns=10 * NS)


def test_limits_out_of_range_are_refused() -> None:
    for tokens_per_s, burst in [(0, 1), (1, 0), (10**7, 1)]:
        with pytest.raises(ValueError, match="1 to 1,000,000"):
            RateLimiter(8, tokens_per_s=tokens_per_s, burst=burst)
