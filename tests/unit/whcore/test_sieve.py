"""WireGuard handshakes to a data plane over real sockets: floods of forged ones, what the indices tell."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator

import pytest

from whcore.cookie import CookieJar, CookieKeys
from whcore.datapath import Datapath
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey
from whcore.sansio import Tunnel

DEADLINE_S = 10.0
UDP_SEGMENT = 103  # linux/udp.h
INITIATION_LEN, RESPONSE_LEN, COOKIE_LEN = 148, 92, 64
MACS_LEN = 32
SEGMENTS = 64
INDEX_BITS = 32


class Plane:
    """A data plane at a loopback port, without a TUN."""

    def __init__(self) -> None:
        self.secret = SecretKey.generate()
        self.plane = Datapath(self.secret)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        udp.bind(("127.0.0.1", 0))
        self.address = udp.getsockname()
        self.plane.add_socket(udp.detach())
        self.plane.start()

    def client(self) -> socket.socket:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.settimeout(DEADLINE_S)
        udp.connect(self.address)
        return udp

    def forged(self, n: int) -> list[bytes]:
        """Initiations that anybody can make who knows the key, each with a mac2 that means nothing."""
        key = hashlib.blake2s(b"mac1----" + self.secret.public_key).digest()
        bodies = (b"\x01\0\0\0" + os.urandom(INITIATION_LEN - 4 - MACS_LEN) for _ in range(n))
        return [
            body + hashlib.blake2s(body, key=key, digest_size=16).digest() + os.urandom(16) for body in bodies
        ]


@pytest.fixture
def plane() -> Iterator[Plane]:
    made = Plane()
    try:
        yield made
    finally:
        made.plane.close()


def send_trains(udp: socket.socket, datagrams: list[bytes]) -> None:
    size = len(datagrams[0]).to_bytes(2, "little")
    for at in range(0, len(datagrams), SEGMENTS):
        udp.sendmsg([b"".join(datagrams[at : at + SEGMENTS])], [(socket.SOL_UDP, UDP_SEGMENT, size)])


def test_who_took_a_cookie_gets_through_a_flood_of_forged_initiations(plane: Plane) -> None:
    """The flood fills every queue that it is let into; what comes behind it in one burst is a member's."""
    secret = SecretKey.generate()
    plane.plane.add_peer(secret.public_key)
    jar = CookieJar(CookieKeys(b"mac1----", b"cookie--", plane.secret.public_key))

    def ask(forged: int) -> bytes:
        """The answer to a member's initiation that is sent behind so many forged ones, or nothing."""
        tunnel = Tunnel(secret, plane.secret.public_key)
        bare = tunnel.initiate(now_ns=time.monotonic_ns(), wall_ns=time.time_ns())[:-MACS_LEN]
        send_trains(flooder, plane.forged(forged))
        member.send(jar.stamp(bare, now_ns=time.monotonic_ns()))
        try:
            return member.recv(2048)
        except TimeoutError:
            return b""
        finally:
            time.sleep(0.06)  # whitepaper 5.3: 20 a second of one address

    with plane.client() as flooder, plane.client() as member:
        member.settimeout(0.5)
        answer = next(answer for _ in range(10) if len(answer := ask(2 * SEGMENTS)) == COOKIE_LEN)
        jar.consume(answer[8:32], answer[32:], now_ns=time.monotonic_ns())
        answered = [len(ask(15 * SEGMENTS)) for _ in range(10)].count(RESPONSE_LEN)
    print(f"{answered} of 10; {plane.plane.counters()}")
    assert answered >= 9


def test_receiver_indices_of_many_sessions_look_random_in_every_bit(plane: Plane) -> None:
    """Who sees them must not tell that they are of one device, or of one peer."""
    members = [SecretKey.generate() for _ in range(20)]
    indices: list[int] = []
    with plane.client() as udp:
        for secret in members:
            plane.plane.add_peer(secret.public_key)
        wall_ns = time.time_ns()
        for _ in range(25):
            for secret in members:
                tunnel = Tunnel(secret, plane.secret.public_key)
                wall_ns += 20_000_000
                udp.send(tunnel.initiate(now_ns=time.monotonic_ns(), wall_ns=wall_ns))
                indices.append(int.from_bytes(udp.recv(2048)[4:8], "little"))
            time.sleep(0.02)  # a data plane looks at 50 initiations a second of a peer
    n = len(indices)
    for part in (0xFFFF, 0x3FFFF, 0xFFFF0000, 0xFFFC0000):
        met = n - len({index & part for index in indices})
        assert met <= 20, f"{met} of {n} agree under {part:#x}"  # of 14 random bits about 8 would
    for bit in range(INDEX_BITS):
        ones = sum(index >> bit & 1 for index in indices)
        assert abs(ones - n / 2) < 5 * (n**0.5) / 2, f"bit {bit}: {ones} ones of {n}"
    for bit in range(INDEX_BITS):  # nor is an index like the one before
        same = sum((a ^ b) >> bit & 1 == 0 for a, b in zip(indices, indices[1:], strict=False))
        assert abs(same - n / 2) < 5 * (n**0.5) / 2, f"bit {bit} stays {same} times of {n}"


def test_workers_drop_what_is_no_control_datagram_for_us() -> None:
    secret = SecretKey.generate()
    sessions = ControlSessions(secret, b"public")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    address = udp.getsockname()
    plane = Datapath(secret)
    plane.set_control_sieve(sessions.sieve)
    plane.add_socket(udp.detach())
    plane.start()
    known = ControlSessions(SecretKey.generate(), b"public")
    init = known.initiate(secret.public_key, b"", pad_to=64, now_ns=0, wall_ns=0)
    ours = sessions.initiate(SecretKey.generate().public_key, b"", pad_to=64, now_ns=0, wall_ns=0)[4:8]
    junk = [
        init[:-20] + bytes(20),
        init[:100],
        b"\xff\x02\x02\x00" + os.urandom(4) + bytes(4) + os.urandom(150),
        b"\xff\x02\x03\x00" + bytes(60),
        b"\xff\x02\x04\x00" + bytes(80),
        b"\xff\x02\x06\x00" + bytes(9),
        b"\xff\x02\x07\x00" + bytes(34),
        b"\xff\x02\x63\x00" + bytes(34),
    ]
    wanted = [
        init,
        b"\xff\x02\x02\x00" + os.urandom(4) + ours + os.urandom(150),
        b"\xff\x02\x03\x00" + ours + bytes(56),
        b"\xff\x02\x06\x00" + bytes(8),
    ]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for datagram in [*junk, *wanted]:
                client.sendto(datagram, address)
        arrived: list[bytes] = []
        give_up_at = time.monotonic() + DEADLINE_S
        while len(arrived) < len(wanted) and time.monotonic() < give_up_at:
            arrived += [datagram.data for datagram in plane.drain_control()]
        assert arrived == wanted
    finally:
        plane.close()
        sessions.close()
