"""Packets that the data plane cannot seal as they are: over the path's MTU, or its own."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from ip_packets import DONT_FRAGMENT, MORE_FRAGMENTS, TCP, UDP, Packet, complement
from loopback_planes import DEADLINE_S, Node, bound, ipv4, wire

OFFSET = 0x1FFF
PATH_MTU = 1280
LIMIT = (PATH_MTU - 20 - 8 - 32) // 16 * 16
ROUTER_ALERT = b"\x94\x04\x00\x00"  # to be copied into each fragment (RFC 2113)
RECORD_ROUTE = b"\x07\x07\x04" + bytes(4)  # only in the first (RFC 791, 3.1)


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node]]:
    """Connected, the first with a narrow path to the second."""
    a, b = Node("10.0.0.1"), Node("10.0.0.2")
    try:
        a.knows(b, managed=True)
        b.knows(a, managed=True)
        packet = a.emit(b, b"first")
        assert b.tun.recv(2000) == packet
        a.plane.set_path(b.key, (a.socket, b.remote, 0, PATH_MTU))
        yield a, b
    finally:
        a.close()
        b.close()


def fragment_word(packet: bytes) -> int:
    return int.from_bytes(packet[6:8], "big")


def header_len(packet: bytes) -> int:
    return (packet[0] & 15) * 4


def fragments_of(packet: bytes, node: Node) -> list[bytes]:
    """What arrives of a packet, as much as there is of it."""
    found: list[bytes] = []
    missing = len(packet) - header_len(packet)
    while missing > 0:
        found.append(node.tun.recv(2000))
        missing -= len(found[-1]) - header_len(found[-1])
    return found


def payload_of(fragments: list[bytes], packet: bytes) -> bytes:
    """The reassembled payload (RFC 791, 3.2). Each fragment is checked against the packet that they were."""
    start = fragment_word(packet) & OFFSET
    payload = b""
    for number, fragment in enumerate(fragments):
        assert len(fragment) == int.from_bytes(fragment[2:4], "big") <= LIMIT
        assert complement(fragment[: header_len(fragment)]) == 0
        assert fragment[1] == packet[1]
        assert fragment[4:6] == packet[4:6]
        assert fragment[8:10] + fragment[12:20] == packet[8:10] + packet[12:20]
        assert (fragment_word(fragment) & OFFSET) * 8 == start * 8 + len(payload)
        last = number + 1 == len(fragments)
        expected = fragment_word(packet) & MORE_FRAGMENTS if last else MORE_FRAGMENTS
        assert fragment_word(fragment) & ~OFFSET == expected
        payload += fragment[header_len(fragment) :]
    return payload


def fragmentable(size: int, *, fragment: int = 0, options: bytes = b"") -> bytes:
    """A UDP packet of so many bytes from the first to the second node."""
    payload = random.Random(size).randbytes(size - 28 - len(options))  # noqa: S311 - no secret
    return bytes(Packet(UDP, payload=payload, identification=size, fragment=fragment, ip_options=options))


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 8, 1500, 2 * LIMIT - 20, 9000, 65456])
def test_a_packet_that_may_be_fragmented_is(nodes: tuple[Node, Node], size: int) -> None:
    a, b = nodes
    packet = fragmentable(size)
    a.tun.send(packet)
    assert payload_of(fragments_of(packet, b), packet) == packet[20:]
    assert a.plane.counters()["drop_too_big"] == 0


def test_what_fits_stays_whole(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    packet = fragmentable(LIMIT)
    a.tun.send(packet)
    assert b.tun.recv(2000) == packet


@pytest.mark.parametrize("more", [0, MORE_FRAGMENTS], ids=["the last", "in the middle"])
def test_a_fragment_is_fragmented_further(nodes: tuple[Node, Node], more: int) -> None:
    a, b = nodes
    packet = fragmentable(20 + 8 * 200, fragment=more | 185)
    a.tun.send(packet)
    assert payload_of(fragments_of(packet, b), packet) == packet[20:]


def test_options_are_copied_as_they_ask(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    packet = fragmentable(3000, options=RECORD_ROUTE + b"\x01" + ROUTER_ALERT)
    a.tun.send(packet)
    fragments = fragments_of(packet, b)
    assert payload_of(fragments, packet) == packet[32:]
    assert fragments[0][20:32] == packet[20:32]
    assert all(fragment[20 : header_len(fragment)] == ROUTER_ALERT for fragment in fragments[1:])


def test_options_that_make_no_sense_do_no_harm(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    seed = 791
    rng = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(200):
        packet = fragmentable(LIMIT + 100, options=rng.randbytes(4 * rng.randrange(1, 11)))
        a.tun.send(packet)
        assert payload_of(fragments_of(packet, b), packet) == packet[header_len(packet) :], f"seed {seed}"


def test_fragments_wait_for_a_session_too(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    b.plane.remove_peer(a.key)
    b.knows(a, managed=True)
    a.plane.set_secret_key(a.secret)  # both have to begin anew
    packet = fragmentable(3000)
    a.tun.send(packet)
    assert payload_of(fragments_of(packet, b), packet) == packet[20:]


# --- IPv6: a path that is narrower than any link may be -----------------------------------------------------

SOURCE6, DESTINATION6 = bytes(15) + b"\x01", bytes(15) + b"\x02"
FRAGMENT = 44
ICMPV6 = 58


def packet6(size: int, next_header: int = UDP, start: bytes = b"") -> bytes:
    """An IPv6 packet of so many bytes from the first to the second node."""
    payload = start + random.Random(size).randbytes(size - 40 - len(start))  # noqa: S311 - no secret
    return struct.pack("!IHBB", 6 << 28 | 7, len(payload), next_header, 9) + SOURCE6 + DESTINATION6 + payload


@pytest.fixture
def nodes6(nodes: tuple[Node, Node]) -> tuple[Node, Node]:
    a, b = nodes
    a.plane.add_allowed_ip(b.key, DESTINATION6, 128)
    b.plane.add_allowed_ip(a.key, SOURCE6, 128)
    return nodes


def fragments6_of(packet: bytes, payload_at: int, node: Node) -> list[bytes]:
    found: list[bytes] = []
    missing = len(packet) - payload_at
    while missing > 0:
        found.append(node.tun.recv(2000))
        missing -= len(found[-1]) - 48
    return found


@pytest.mark.parametrize("size", [LIMIT + 1, 1279, 1280])
def test_ipv6_packets_that_every_link_carries_are_fragmented(nodes6: tuple[Node, Node], size: int) -> None:
    a, b = nodes6
    packet = packet6(size)
    a.tun.send(packet)
    first, last = fragments6_of(packet, 40, b)
    for fragment in (first, last):
        assert len(fragment) == 40 + int.from_bytes(fragment[4:6], "big") <= LIMIT
        assert fragment[:4] + fragment[7:40] == packet[:4] + packet[7:40]
        assert fragment[6] == FRAGMENT
        assert fragment[40:42] == bytes((UDP, 0))
    assert int.from_bytes(first[42:44], "big") == 1
    assert int.from_bytes(last[42:44], "big") == len(first) - 48
    assert first[44:48] == last[44:48]
    assert first[48:] + last[48:] == packet[40:]
    a.tun.send(packet)
    assert fragments6_of(packet, 40, b)[0][44:48] != first[44:48], "another packet's identification"


def test_larger_ipv6_packets_are_answered_with_what_every_link_carries(nodes6: tuple[Node, Node]) -> None:
    a, b = nodes6
    a.tun.send(packet6(1281))
    answer = a.tun.recv(2000)
    assert answer[40] == 2, "packet too big"
    assert int.from_bytes(answer[44:48], "big") == 1280
    whole = packet6(LIMIT)
    a.tun.send(whole)
    assert b.tun.recv(2000) == whole


@pytest.mark.parametrize("more", [0, 1], ids=["the last", "in the middle"])
def test_an_ipv6_fragment_is_fragmented_further(nodes6: tuple[Node, Node], more: int) -> None:
    a, b = nodes6
    offset = 1232
    packet = packet6(48 + 1232, FRAGMENT, struct.pack("!BBHI", UDP, 0, offset | more, 0xABCDEF))
    a.tun.send(packet)
    first, last = fragments6_of(packet, 48, b)
    assert first[40:48] == struct.pack("!BBHI", UDP, 0, offset | 1, 0xABCDEF)
    assert last[40:48] == struct.pack("!BBHI", UDP, 0, offset + len(first) - 48 | more, 0xABCDEF)
    assert first[48:] + last[48:] == packet[48:]


def test_ipv6_packets_that_cannot_be_fragmented_are_dropped_and_counted(nodes6: tuple[Node, Node]) -> None:
    a, _ = nodes6
    for next_header in (0, 43, 60):
        a.tun.send(packet6(1280, next_header, bytes((UDP, 0, 1, 4, 0, 0, 0, 0))))
    a.tun.send(packet6(1280, 43, b"\xff\xff"))
    a.until(lambda: a.plane.counters()["drop_too_big"] == 4, "they have other extension headers")


# --- IPv6 for a host that has none -------------------------------------------------------------------------


@pytest.mark.parametrize(("next_header", "code"), [(UDP, 4), (TCP, 3), (FRAGMENT, 3), (59, 3)])
@pytest.mark.parametrize("size", [41, 100, 1200])
def test_ipv6_for_a_host_without_is_answered_as_unreachable(
    nodes6: tuple[Node, Node], next_header: int, code: int, size: int
) -> None:
    a, b = nodes6
    b.plane.set_inner_ipv6(False)
    packet = packet6(size, next_header)
    a.tun.send(packet)
    answer = a.tun.recv(2000)
    assert answer[8:40] == DESTINATION6 + SOURCE6
    assert (answer[6], *answer[40:42]) == (ICMPV6, 1, code)
    assert answer[48:] == packet[:464]
    pseudo = answer[8:40] + struct.pack("!II", len(answer) - 40, ICMPV6)
    assert complement(pseudo + answer[40:]) == 0
    first = bytes(Packet(UDP, payload=b"IPv4 goes on"))
    a.tun.send(first)
    assert b.tun.recv(2000) == first
    b.plane.set_inner_ipv6(True)
    a.tun.send(packet)
    assert b.tun.recv(2000) == packet


def test_nobody_answers_errors_multicasts_and_floods_of_ipv6(nodes6: tuple[Node, Node]) -> None:
    a, b = nodes6
    multicast = bytes.fromhex("ff0e") + bytes(14)
    a.plane.add_allowed_ip(b.key, multicast, 128)
    b.plane.set_inner_ipv6(False)
    a.tun.send(packet6(100, ICMPV6, b"\x01\x03"))
    a.tun.send(packet6(100)[:24] + multicast + packet6(100)[40:])
    began = time.monotonic()
    for _ in range(200):
        a.tun.send(packet6(100, ICMPV6, b"\x80\x00"))
    b.until(lambda: b.plane.counters()["drop_ipv6"] == 202, "all of them came")
    most = 65 + (time.monotonic() - began) * 1000
    assert 64 <= b.plane.counters()["tx_data"] - 1 <= min(200, most)


# --- our own datagrams, led back by a route ---------------------------------------------------------------


def test_our_own_datagrams_are_not_sealed_again(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    with bound(socket.AF_INET, "127.0.0.1") as endpoint:
        endpoint.settimeout(DEADLINE_S)
        address, port = endpoint.getsockname()
        a.plane.set_path(b.key, (a.socket, wire(address, port)))
        a.plane.add_allowed_ip(b.key, socket.inet_aton(address), 32)
        a.emit(b, b"x")
        message = endpoint.recv(2000)

        def led_back(payload: bytes, to_port: int = port, fragment: int = DONT_FRAGMENT) -> None:
            a.tun.send(
                bytes(
                    Packet(
                        UDP,
                        destination=socket.inet_aton(address),
                        source_port=a.port,
                        destination_port=to_port,
                        payload=payload,
                        fragment=fragment,
                    )
                )
            )

        led_back(message)
        led_back(message + bytes(100), fragment=MORE_FRAGMENTS)
        a.until(lambda: a.plane.counters()["drop_loop"] == 2, "whole, and its first fragment")
        others = [
            (b"\x04\0\0\0" + os.urandom(100), port, DONT_FRAGMENT),  # another WireGuard's
            (message, port ^ 1, DONT_FRAGMENT),
            (message, port, 100),
            (b"\x04", port, DONT_FRAGMENT),
        ]
        for payload, to_port, fragment in others:
            led_back(payload, to_port, fragment)
            assert len(endpoint.recv(2000)) > len(payload) + 32
        assert a.plane.counters()["drop_loop"] == 2


def test_our_own_handshakes_are_not_staged(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    with bound(socket.AF_INET, "127.0.0.1") as endpoint:
        endpoint.settimeout(DEADLINE_S)
        address, port = endpoint.getsockname()
        a.plane.set_path(b.key, (a.socket, wire(address, port)))
        a.plane.add_allowed_ip(b.key, socket.inet_aton(address), 32)
        a.plane.rekey(b.key)
        message = endpoint.recv(2000)
        assert struct.unpack("<I", message[:4]) == (1,)
        datagram = struct.pack("!HHHH", a.port, port, 8 + len(message), 0) + message
        a.tun.send(ipv4("127.0.0.1", address, datagram))
        a.until(lambda: a.plane.counters()["drop_loop"] == 1, "the initiation came back")
