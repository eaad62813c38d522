"""Paths of the data plane over loopback: two at a time, silence, relay channels, path MTU, ECN."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
from test_datapath import DEADLINE_S, Node, ipv4, wire

from whcore import datapath as core
from whcore.errors import SystemFailure

IP_DONT_FRAGMENT = 0x4000


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node, Node]]:
    """Two managed peers of each other, connected, and a third that relays."""
    a, b, relay = Node("10.0.0.1"), Node("10.0.0.2"), Node("10.0.0.3")
    try:
        a.knows(b, managed=True)
        b.knows(a, managed=True)
        packet = a.emit(b, b"first")
        assert b.tun.recv(2000) == packet
        yield a, b, relay
    finally:
        for node in (a, b, relay):
            node.close()


def second_socket(node: Node) -> int:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    return node.plane.add_socket(udp.detach())


def received(node: Node, n: int) -> list[bytes]:
    return [node.tun.recv(2000) for _ in range(n)]


def test_duplicated_packets_arrive_once(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    paths = [(a.socket, b.remote), (second_socket(a), b.remote)]
    a.plane.set_paths(b.key, paths, mode=core.PATHS_DUPLICATE)
    packets = [a.emit(b, os.urandom(8)) for _ in range(20)]
    assert received(b, 20) == packets
    b.until(lambda: b.plane.counters()["drop_replay"] == 20, "the copies are dropped by the replay window")
    assert a.plane.counters()["duplicated"] == 20


def test_flows_are_split_over_two_paths_and_each_stays_on_its_own(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    paths = [(a.socket, b.remote), (second_socket(a), b.remote)]
    a.plane.set_paths(b.key, paths, mode=core.PATHS_SPLIT)
    for port in range(32):
        a.emit(b, struct.pack("!HHHH", port, 53, 8, 0))
        b.tun.recv(2000)
    reported = {event[3] for event in b.plane.drain_events() if event[0] == core.EVENT_NEW_PATH}
    assert len(reported) == 1, "some flows came from the second socket, which b was not told of"
    assert a.plane.counters()["duplicated"] == 0


def accounted(node: Node) -> int:
    """Data messages sent, copies apart, as counted after their send."""
    counters = node.plane.counters()
    return counters["tx_data"] - counters["duplicated"]


def test_after_silence_the_second_path_is_used_too(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    nowhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    nowhere.bind(("127.0.0.1", 0))
    dead = wire("127.0.0.1", nowhere.getsockname()[1])
    silence_ns = 50_000_000
    a.plane.set_paths(b.key, [(a.socket, dead), (a.socket, b.remote)], silence_ns=silence_ns)
    a.until(lambda: accounted(a) == 1, "the first packet is accounted for")
    before = accounted(a)
    sent: list[bytes] = []
    b.tun.settimeout(0.02)
    arrived = b""

    def got_through() -> bool:
        nonlocal arrived
        sent.append(a.emit(b, os.urandom(8)))
        try:
            arrived = b.tun.recv(2000)
        except TimeoutError:
            return False
        return True

    a.until(got_through, "a packet arrives over the second path")
    assert arrived in sent[1:], "the first ones went to the dead path alone"
    assert a.event(core.EVENT_PATH_SILENT) == (core.EVENT_PATH_SILENT, b.key)
    a.until(lambda: accounted(a) == before + len(sent), "every packet and copy is accounted for")
    duplicated = a.plane.counters()["duplicated"]
    a.plane.clear_silence(b.key)
    a.emit(b, b"to the dead path only")
    a.until(lambda: a.plane.counters()["tun_reads"] >= len(sent) + 2, "it was sent")
    assert a.plane.counters()["duplicated"] == duplicated
    nowhere.close()


@pytest.mark.parametrize("changes", ["socket", "address family"])
def test_paths_that_cannot_be_are_refused_and_change_nothing(
    nodes: tuple[Node, Node, Node], changes: str
) -> None:
    a, b, _ = nodes
    bad = (7, b.remote) if changes == "socket" else (a.socket, bytes(15) + b"\x01\x00\x01")
    with pytest.raises(ValueError, match="path"):
        a.plane.set_paths(b.key, [(a.socket, b.remote), bad])
    packet = a.emit(b, b"as before")
    assert b.tun.recv(2000) == packet


def through_relay(a: Node, b: Node, relay: Node, **limits: int) -> tuple[int, int]:
    legs = relay.plane.relay_open((relay.socket, a.remote), (relay.socket, b.remote), **limits)
    a.plane.set_path(b.key, (a.socket, relay.remote, legs[0]))
    b.plane.set_path(a.key, (b.socket, relay.remote, legs[1]))
    return legs


def test_packets_cross_a_relay_both_ways(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    legs = through_relay(a, b, relay)
    for _ in range(5):
        packet = a.emit(b, os.urandom(1000))
        assert b.tun.recv(2000) == packet
        packet = b.emit(a, os.urandom(1000))
        assert a.tun.recv(2000) == packet
    assert b.plane.peers()[0].path == (b.socket, relay.remote)
    status = relay.plane.relay_status(legs[1])
    assert status.legs == legs
    assert status.proved
    assert status.packets == (5, 5)
    assert status.drops == 0
    assert relay.plane.counters()["forwarded"] == 10


def test_a_handshake_crosses_a_relay(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    through_relay(a, b, relay)
    a.plane.drain_events()
    a.plane.rekey(b.key)
    assert a.event(core.EVENT_HANDSHAKE) == (core.EVENT_HANDSHAKE, b.key)
    packet = b.emit(a, b"with the new keys")
    assert a.tun.recv(2000) == packet


def test_a_relay_drops_what_is_not_of_its_channel(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    legs = through_relay(a, b, relay)
    channel = b"\xff\x02\x05\x00" + legs[0].to_bytes(4, "little")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(channel + b"from elsewhere", ("127.0.0.1", relay.port))
        stranger.sendto(b"\xff\x02\x05\x00\x01\x00\x00\x00no channel", ("127.0.0.1", relay.port))
    relay.until(lambda: relay.plane.counters()["drop_forward"] == 2, "both are counted")
    assert relay.plane.counters()["forwarded"] == 0


def test_a_channel_follows_a_client_that_moved_and_can_be_closed(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    legs = through_relay(a, b, relay)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    moved = wire("127.0.0.1", udp.getsockname()[1])
    a.plane.set_path(b.key, (a.plane.add_socket(udp.detach()), relay.remote, legs[0]))
    a.emit(b, b"not yet")
    relay.until(lambda: relay.plane.counters()["drop_forward"] == 1, "the new address is unknown")
    relay.plane.relay_move(legs[0], (relay.socket, moved))
    packet = a.emit(b, b"now")
    assert b.tun.recv(2000) == packet
    relay.plane.relay_close(legs[1])
    with pytest.raises(KeyError):
        relay.plane.relay_status(legs[0])
    assert relay.plane.relay_expire(0) == 0


def test_relay_limits_hold(nodes: tuple[Node, Node, Node]) -> None:
    a, b, relay = nodes
    through_relay(a, b, relay, quota=1200)
    packet = b.emit(a, os.urandom(500))
    assert a.tun.recv(2000) == packet
    a.emit(b, os.urandom(1000))
    relay.until(lambda: relay.plane.counters()["drop_forward"] == 1, "over the quota")
    with pytest.raises(SystemFailure):
        for _ in range(5000):
            relay.plane.relay_open((relay.socket, a.remote), (relay.socket, b.remote))


def with_dont_fragment(packet: bytes) -> bytes:
    return packet[:6] + struct.pack("!H", IP_DONT_FRAGMENT) + packet[8:]


def test_a_packet_over_the_path_mtu_is_answered_with_icmp(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    a.plane.set_path(b.key, (a.socket, b.remote, 0, 1280))
    limit = (1280 - 20 - 8 - 32) // 16 * 16
    fits = with_dont_fragment(ipv4(a.address, b.address, bytes(limit - 20)))
    a.tun.send(fits)
    assert b.tun.recv(2000) == fits
    too_long = with_dont_fragment(ipv4(a.address, b.address, bytes(limit - 19)))
    a.tun.send(too_long)
    answer = a.tun.recv(2000)
    assert answer[9] == 1, "ICMP"
    assert answer[12:20] == too_long[16:20] + too_long[12:16]
    assert answer[20:22] == b"\x03\x04", "fragmentation needed"
    assert int.from_bytes(answer[26:28], "big") == limit
    assert answer[28:] == too_long[: len(answer) - 28]
    assert ones_sum(answer[:20]) == ones_sum(answer[20:]) == 0xFFFF
    may_fragment = ipv4(a.address, b.address, bytes(1380 - 20))
    a.tun.send(may_fragment)
    assert b.tun.recv(2000) == may_fragment


def test_ipv6_is_answered_with_packet_too_big(nodes: tuple[Node, Node, Node]) -> None:
    a, b, _ = nodes
    destination = bytes(15) + b"\x02"
    a.plane.add_allowed_ip(b.key, destination, 128)
    a.plane.set_path(b.key, (a.socket, b.remote, 0, 1400))
    header = struct.pack("!IHBB", 6 << 28, 1400 - 40, 59, 64) + bytes(15) + b"\x01" + destination
    a.tun.send(header + bytes(1400 - 40))
    answer = a.tun.recv(2000)
    assert answer[40] == 2, "packet too big"
    assert int.from_bytes(answer[44:48], "big") == (1400 - 20 - 8 - 32) // 16 * 16
    pseudo = answer[8:40] + struct.pack("!II", len(answer) - 40, 58)
    assert ones_sum(pseudo + answer[40:]) == 0xFFFF


def ones_sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [(0, 0, 0), (1, 0, 1), (2, 0, 2), (2, 3, 3), (1, 3, 3), (2, 1, 1), (3, 0, 3), (3, 1, 3), (0, 3, None)],
)
def test_congestion_marks_cross_the_tunnel_as_rfc_6040_says(
    nodes: tuple[Node, Node, Node], inner: int, outer: int, expected: int | None
) -> None:
    """The outer mark is set by a wire between the two: a socket that repeats what it hears."""
    a, b, _ = nodes
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire_end:
        wire_end.bind(("127.0.0.1", 0))
        wire_end.settimeout(DEADLINE_S)
        a.plane.set_path(b.key, (a.socket, wire("127.0.0.1", wire_end.getsockname()[1])))
        packet = bytearray(ipv4(a.address, b.address, b"marked"))
        packet[1] = inner
        packet[10:12] = (0xFFFF - ones_sum(bytes(packet[:20]))).to_bytes(2, "big")
        a.tun.send(packet)
        datagram = wire_end.recv(2000)
        wire_end.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, outer)
        wire_end.sendto(datagram, ("127.0.0.1", b.port))
    if expected is None:
        b.until(lambda: b.plane.counters()["drop_ecn"] == 1, "a mark that cannot be carried drops the packet")
        return
    arrived = b.tun.recv(2000)
    assert arrived[1] == expected
    assert ones_sum(arrived[:20]) == 0xFFFF
