"""Data planes over loopback, each with a socket pair in the place of its TUN: real threads, real UDP."""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from loopback_planes import DEADLINE_S, V4_PREFIX, Node, bound, ipv4, wire
from own_namespace import in_namespace, ip, needs_namespace

from wh.net.sockets import open_udp_sockets
from whcore import datapath as core
from whcore.errors import InvalidKey
from whcore.keys import SecretKey

IP_RECVTTL = 12  # linux/in.h
MAGIC = b"\xff\x02\x04\x00"


def thread_count() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture
def pair() -> Iterator[tuple[Node, Node]]:
    a, b = Node("10.0.0.1"), Node("10.0.0.2")
    try:
        yield a, b
    finally:
        a.close()
        b.close()


@pytest.fixture
def connected(pair: tuple[Node, Node]) -> tuple[Node, Node]:
    a, b = pair
    a.knows(b)
    b.knows(a)
    packet = a.emit(b, b"first")
    assert b.tun.recv(2000) == packet
    return pair


def test_the_packet_that_starts_a_session_is_delivered(pair: tuple[Node, Node]) -> None:
    a, b = pair
    a.knows(b)
    b.knows(a, path=False)  # learns where a is from its handshake
    packet = a.emit(b, b"hello")
    assert b.tun.recv(2000) == packet
    back = b.emit(a, b"answer")
    assert a.tun.recv(2000) == back


def test_packets_of_every_size_keep_their_bytes(connected: tuple[Node, Node]) -> None:
    a, b = connected
    for size in (0, 1, 15, 16, 17, 1387, 1388, 1389, 8000, 65456 - 20):
        packet = a.emit(b, os.urandom(size))
        assert b.tun.recv(70000) == packet


def test_a_burst_before_the_session_is_kept_in_order(pair: tuple[Node, Node]) -> None:
    a, b = pair
    b.knows(a, path=False)
    a.knows(b, path=False)
    packets = [a.emit(b, bytes([i])) for i in range(100)]
    a.until(lambda: a.plane.counters()["drop_no_peer"] == 0 and True, "running")
    a.plane.set_path(b.key, (a.socket, b.remote))
    assert [b.tun.recv(2000) for _ in packets] == packets


def test_bytes_and_packets_are_counted_exactly(connected: tuple[Node, Node]) -> None:
    a, b = connected
    a.until(lambda: a.plane.peers()[0].tx_packets == 1, "the first packet is accounted for, after its send")
    before_a, before_b = a.plane.peers()[0], b.plane.peers()[0]
    for _ in range(10):
        a.emit(b, b"x" * 100)
        b.tun.recv(2000)
    a.until(lambda: a.plane.peers()[0].tx_packets == 11, "ten packets more")
    frame = 32 + 128  # 120 bytes of packet, padded
    assert a.plane.peers()[0].tx_bytes - before_a.tx_bytes == 10 * frame
    assert b.plane.peers()[0].rx_bytes - before_b.rx_bytes == 10 * frame


def test_handshakes_and_keepalives_count_as_bytes_but_not_as_packets(connected: tuple[Node, Node]) -> None:
    a, b = connected
    a.until(lambda: a.plane.peers()[0].tx_packets == 1, "the first packet is accounted for, after its send")
    frame = 32 + 32  # 25 bytes of packet, padded
    assert (a.plane.peers()[0].rx_bytes, a.plane.peers()[0].tx_bytes) == (92, 148 + frame)
    assert (b.plane.peers()[0].rx_bytes, b.plane.peers()[0].tx_bytes) == (148 + frame, 92)
    a.plane.set_keepalive(b.key, 25)
    b.until(lambda: b.plane.peers()[0].rx_bytes == 148 + frame + 32, "a keepalive comes at once")
    assert a.plane.peers()[0].tx_packets == b.plane.peers()[0].rx_packets == 1


def test_a_peer_may_only_send_from_its_own_addresses(connected: tuple[Node, Node]) -> None:
    a, b = connected
    a.emit(b, b"forged", source="10.0.0.9")
    b.until(lambda: b.plane.counters()["drop_source"] == 1, "the forged source is counted")
    packet = a.emit(b, b"own")
    assert b.tun.recv(2000) == packet


def test_what_is_no_ip_packet_goes_nowhere(connected: tuple[Node, Node]) -> None:
    a, b = connected
    for junk in (b"\x00", b"\x45", bytes(20), ipv4("10.0.0.1", "10.0.0.2")[:-1], b"\x60" + bytes(10)):
        a.tun.send(junk)
    a.until(lambda: a.plane.counters()["drop_inner"] == 5, "five packets with a bad header")
    a.tun.send(ipv4("10.0.0.1", "192.0.2.1"))
    a.until(lambda: a.plane.counters()["drop_no_peer"] == 1, "one packet for nobody")


def test_no_packet_is_lost_across_forced_rekeys(connected: tuple[Node, Node]) -> None:
    a, b = connected
    for i in range(10):
        initiator, responder = (a, b) if i % 2 else (b, a)
        initiator.plane.drain_events()
        rekeyed_at = time.monotonic()
        initiator.plane.rekey(responder.key)
        confirmed = False
        # A responder looks at 50 initiations a second, whose timestamps have a grain of 17 ms.
        while not confirmed or time.monotonic() < rekeyed_at + 0.05:
            packet = a.emit(b, os.urandom(8))
            assert b.tun.recv(2000) == packet
            packet = b.emit(a, os.urandom(8))
            assert a.tun.recv(2000) == packet
            confirmed = confirmed or (core.EVENT_HANDSHAKE, responder.key) in initiator.plane.drain_events()
            assert time.monotonic() < rekeyed_at + DEADLINE_S
    assert a.plane.counters()["drop_index"] == a.plane.counters()["drop_auth"] == 0


def test_a_plain_peer_roams_to_where_its_packets_come_from(connected: tuple[Node, Node]) -> None:
    a, b = connected
    old = b.plane.peers()[0].path
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    port = udp.getsockname()[1]
    a.plane.set_path(b.key, (a.plane.add_socket(udp.detach()), b.remote))
    packet = a.emit(b, b"from a new port")
    assert b.tun.recv(2000) == packet
    assert old != b.plane.peers()[0].path == (b.socket, wire("127.0.0.1", port))


def test_a_managed_peer_never_moves_by_itself_but_is_reported(pair: tuple[Node, Node]) -> None:
    a, b = pair
    a.knows(b)
    b.knows(a, managed=True, path=False)
    packet = a.emit(b, b"x")
    assert b.tun.recv(2000) == packet, "delivered although b has no path"
    assert b.event(core.EVENT_NEW_PATH) == (core.EVENT_NEW_PATH, a.key, b.socket, a.remote, 0)
    assert b.plane.peers()[0].path is None


def test_traffic_without_a_path_asks_for_one(pair: tuple[Node, Node]) -> None:
    a, b = pair
    a.knows(b, managed=True, path=False)
    b.knows(a)
    packet = a.emit(b, b"waits")
    assert a.event(core.EVENT_PATH_WANTED) == (core.EVENT_PATH_WANTED, b.key)
    a.plane.set_path(b.key, (a.socket, b.remote))
    assert b.tun.recv(2000) == packet
    assert a.event(core.EVENT_HANDSHAKE) == (core.EVENT_HANDSHAKE, b.key)


def test_peers_come_and_go_under_traffic(connected: tuple[Node, Node]) -> None:
    a, b = connected
    others = [SecretKey.generate().public_key for _ in range(20)]
    for _ in range(50):
        for key in others:
            a.plane.add_peer(key)
            a.plane.add_allowed_ip(key, b"\x0a\x01\x00\x00", 16)
            a.tun.send(ipv4("10.0.0.1", "10.1.2.3"))
        packet = a.emit(b, b"between")
        assert b.tun.recv(2000) == packet
        for key in others:
            a.plane.remove_peer(key)
    assert [status.public_key for status in a.plane.peers()] == [b.key]


def test_a_removed_peer_is_gone_for_good(connected: tuple[Node, Node]) -> None:
    a, b = connected
    b.plane.remove_peer(a.key)
    a.emit(b, b"to nobody")
    b.until(lambda: b.plane.counters()["drop_index"] == 1, "its session is unknown")
    assert not b.plane.has_peer(a.key)
    with pytest.raises(KeyError):
        b.plane.set_path(a.key, (b.socket, a.remote))


def test_a_new_secret_key_ends_the_old_sessions(connected: tuple[Node, Node]) -> None:
    a, b = connected
    a.plane.set_secret_key(SecretKey.generate())
    assert not a.plane.peers()[0].has_session
    a.emit(b, b"nobody knows this key")
    b.until(lambda: b.plane.counters()["drop_handshake"] == 1, "the handshake of an unknown key is refused")


def test_unusable_peers_are_refused() -> None:
    node = Node("10.0.0.1")
    try:
        with pytest.raises(InvalidKey):
            node.plane.add_peer(bytes(32))
        with pytest.raises(InvalidKey):
            node.plane.add_peer(b"\xff" * 32)
        with pytest.raises(ValueError, match="own"):
            node.plane.add_peer(node.key)
        node.plane.add_peer(SecretKey.generate().public_key)
        with pytest.raises(ValueError, match="exists"):
            node.plane.add_peer(node.plane.peers()[0].public_key)
        with pytest.raises(ValueError, match="socket"):
            node.plane.set_path(node.plane.peers()[0].public_key, (63, node.remote))
    finally:
        node.close()


def test_control_datagrams_reach_python_and_leave_from_it(pair: tuple[Node, Node]) -> None:
    a, b = pair
    control = b"\xff\x02\x06\x00" + b"knocking"
    assert a.plane.send_control(a.socket, b.remote, control)
    assert b.control()[:4] == (b.socket, a.remote, control, 0)
    loopback6 = bytes(15) + b"\x01" + b"\0\x01"
    assert not a.plane.send_control(a.socket, loopback6, control), "no IPv6 over an IPv4 socket"


@pytest.mark.parametrize(
    ("family", "host", "level", "wants_limit"),
    [(socket.AF_INET, "127.0.0.1", socket.IPPROTO_IP, IP_RECVTTL),
     (socket.AF_INET6, "::1", socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT)],
    ids=["v4", "v6"],
)  # fmt: skip
def test_one_control_datagram_leaves_with_a_ttl_of_its_own(
    pair: tuple[Node, Node], family: socket.AddressFamily, host: str, level: int, wants_limit: int
) -> None:
    node = pair[0]
    number = node.plane.add_socket(bound(family, host).detach())
    with bound(family, host) as receiver:
        receiver.setsockopt(level, wants_limit, 1)
        receiver.settimeout(DEADLINE_S)
        prefix = V4_PREFIX if family == socket.AF_INET else b""
        port = receiver.getsockname()[1].to_bytes(2, "big")
        remote = prefix + socket.inet_pton(family, host) + port
        hop_limits = []
        for ttl in (5, 0, 255):
            assert node.plane.send_control(number, remote, b"\xff\x02\x06\x00", ttl)
            ancillary = receiver.recvmsg(100, 100)[1]
            hop_limits.append(int.from_bytes(ancillary[0][2], sys.byteorder))
    assert hop_limits[::2] == [5, 255]
    assert hop_limits[1] not in (5, 255), "the socket's own is as before"
    with pytest.raises(ValueError, match="TTL"):
        node.plane.send_control(number, remote, b"", ttl=256)


@needs_namespace
def test_a_control_datagram_may_arrive_in_fragments_unless_it_measures_the_path() -> None:
    def over_576_bytes() -> None:
        ip("link", "set", "lo", "up", "mtu", "576")
        with closing(Node("10.0.0.1")) as a, closing(Node("10.0.0.2")) as b:
            v4, *others = open_udp_sockets(0)
            for other in others:
                other.close()
            number = a.plane.add_socket(v4.detach())
            for control in (MAGIC + bytes(548 - len(MAGIC)), MAGIC + bytes(1196)):
                for whole in (True, False, True):
                    sent = a.plane.send_control(number, b.remote, control, whole=whole)
                    assert sent == (len(control) == 548 or not whole)
                    assert not sent or b.control().data == control

    in_namespace(over_576_bytes)


def test_an_answer_leaves_from_the_address_that_was_written_to(pair: tuple[Node, Node]) -> None:
    node = pair[0]
    everywhere = bound(socket.AF_INET, "0.0.0.0")  # noqa: S104 - what a node's sockets are bound to
    port = everywhere.getsockname()[1]
    number = node.plane.add_socket(everywhere.detach())
    with bound(socket.AF_INET, "127.0.0.1") as client:
        client.settimeout(DEADLINE_S)
        client.sendto(b"\xff\x02\x06\x00" + bytes(8), ("127.0.0.2", port))
        request = node.control()
        for source, expected in ((request.source, "127.0.0.2"), (b"", "127.0.0.1")):
            assert node.plane.send_control(number, request.remote, b"answer", source=source)
            assert client.recvfrom(100) == (b"answer", (expected, port))
        gone = V4_PREFIX + socket.inet_aton("192.0.2.1") + bytes(4)
        assert node.plane.send_control(number, request.remote, b"answer", source=gone)
        assert client.recvfrom(100)[1] == ("127.0.0.1", port), "the address is not ours"


def test_a_control_flood_is_bounded_and_counted(pair: tuple[Node, Node]) -> None:
    a, b = pair
    for _ in range(40):
        for _ in range(50):
            a.plane.send_control(a.socket, b.remote, b"\xff\x02\x04\x00" + bytes(100))
        time.sleep(0)
    b.until(lambda: b.plane.counters()["drop_queue_full"] > 0, "the ring is full")
    assert sum(len(b.plane.drain_control()) for _ in range(20)) <= 2000


def test_random_and_mutated_datagrams_change_nothing(connected: tuple[Node, Node]) -> None:
    a, b = connected
    seed = 20181
    rng = random.Random(seed)  # noqa: S311 - a test input, not a secret
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        for _ in range(5000):
            size = rng.choice((0, 1, 4, 31, 32, 33, 64, 91, 92, 148, 149, 1500, rng.randrange(2000)))
            data = bytearray(rng.randbytes(size))
            if size >= 4 and rng.random() < 0.7:
                data[:4] = bytes((rng.randrange(1, 5), 0, 0, 0))
            attacker.sendto(data, ("127.0.0.1", b.port))
    packet = a.emit(b, b"still here")
    assert b.tun.recv(2000) == packet
    counters = b.plane.counters()
    assert counters["drop_length"] > 0
    assert counters["drop_mac"] > 0
    assert counters["drop_index"] > 0
    assert b.plane.peers()[0].path == (b.socket, a.remote), f"seed {seed}"


def test_close_is_idempotent_and_joins_the_threads() -> None:
    before = thread_count()
    node = Node("10.0.0.1")
    assert thread_count() == before + 2
    node.close()
    node.plane.close()
    assert thread_count() == before
    with pytest.raises(ValueError, match="closed"):
        node.plane.counters()
