"""Traffic through WireGuard tunnels: floods, TCP and UDP at once, packets of every size, exact counters."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from labnet import Lab, wait_until
from pinging import lost
from wireguard_ends import (
    INITIATION_LEN,
    MESSAGE_OVERHEAD,
    PINGS,
    RESPONSE_LEN,
    End,
    Iperf3Server,
    connect,
    iperf3_summary,
    ping_both_ways,
    same_wire,
    send_file,
    sockets_removed,
    start_and_connect,
)

LARGEST_INNER = 65456  # 65,535 less IPv6 or IPv4, UDP and WireGuard headers, a multiple of 16
ICMP_HEADERS = 28  # IPv4 and ICMP echo
FLOOD = 300


@pytest.fixture
def ends(lab: Lab) -> Iterator[tuple[End, End]]:
    made = same_wire(lab)
    with sockets_removed(*made):
        yield made


PAIRS = [("ours", "ours"), ("go", "ours"), ("ours", "go")]


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
@pytest.mark.parametrize("endpoint", ["v4", "v6"])
def test_floods_and_streams_in_both_families_at_once(
    ends: tuple[End, End], pair: tuple[str, str], endpoint: str
) -> None:
    start_and_connect(ends, *pair, endpoint=endpoint)
    ping_both_ways(ends)
    a, b = ends
    flood_ping = ["ping", "-f", f"-c{FLOOD}", "-s700", "-p5aa5", "-W2"]
    floods = [
        end.host.popen([*flood_ping, address], stdout=subprocess.PIPE)
        for end, other in (ends, ends[::-1])
        for address in (other.inner, other.inner6)
    ]
    for flood in floods:
        printed = flood.communicate(timeout=30)[0]
        assert lost(printed) <= 1, printed  # the answer that was under way when ping ended
        assert "wrong data byte" not in printed
    server = Iperf3Server(b.host)
    clients = [
        server.start_client(a.host, b.inner, "-t1", "-u", "-b5M"),
        server.start_client(a.host, b.inner6, "-t1", "-u", "-b5M", "-R"),
        server.start_client(a.host, b.inner, "-t1", "-P2"),
        server.start_client(a.host, b.inner6, "-t1", "-P2", "-R"),
    ]
    udp4, udp6, tcp4, tcp6 = (iperf3_summary(client) for client in clients)
    for tcp in (tcp4, tcp6):
        assert tcp["sum_received"]["bits_per_second"] > 10e6
    for udp in (udp4, udp6):
        assert udp["sum"]["packets"] > 200
        assert udp["sum"]["lost_percent"] < 40  # TCP fills every queue on the way beside it
    send_file(a.host, b.host, b.inner, megabytes=4)
    send_file(b.host, a.host, a.inner6, megabytes=4)


def test_every_mtu_carries_streams_and_packets_that_fill_it(ends: tuple[End, End]) -> None:
    """Over 1,500 bytes outside the large ones travel in fragments."""
    start_and_connect(ends)
    a, b = ends
    for mtu in (1280, 1420, 1500, 8920, 34736):
        for end in ends:
            end.set_mtu(mtu)
        a.ping(b.inner, "-Mdo", f"-s{mtu - ICMP_HEADERS}")
        a.ping(b.inner6, "-Mdo", f"-s{mtu - 48}")
        send_file(a.host, b.host, b.inner, megabytes=2)
        server = Iperf3Server(b.host)
        client = server.start_client(a.host, b.inner6, "-t1", "-P2")
        assert iperf3_summary(client)["sum_received"]["bits_per_second"] > 10e6


@pytest.mark.parametrize("endpoint", ["v4", "v6"])
@pytest.mark.parametrize("outer_mtu", [1500, 65535])
def test_inner_packets_of_up_to_65456_bytes(lab: Lab, endpoint: str, outer_mtu: int) -> None:
    ends = same_wire(lab, mtu=outer_mtu)
    with sockets_removed(*ends):
        start_and_connect(ends, endpoint=endpoint)
        for end in ends:
            end.set_mtu(LARGEST_INNER)
        for size in (1, 1399, 1400, 1401, 20_000, 65_000, LARGEST_INNER - ICMP_HEADERS):
            ends[0].ping(ends[1].inner, "-Mdo", f"-s{size}", "-p5aa5")


@pytest.mark.slow
def test_vxlan_without_checksums_is_as_fast_as_with(ends: tuple[End, End]) -> None:
    """Linux makes none over IPv4 by default. Each packet alone, it had 40% of the rate."""
    start_and_connect(ends)
    rates: dict[str, list[float]] = {"noudpcsum": [], "udpcsum": []}
    for checksums in (*rates, *rates, *rates):
        with vxlan(ends, checksums) as server:
            client = server.start_client(ends[0].host, "10.77.0.2", "-t2")
            rates[checksums].append(iperf3_summary(client)["sum_received"]["bits_per_second"] / 1e6)
    print(rates)
    without, with_checksums = (statistics.median(each) for each in rates.values())
    assert without > 0.9 * with_checksums


@contextmanager
def vxlan(ends: tuple[End, End], checksums: str) -> Iterator[Iperf3Server]:
    """Of each end a device with the address 10.77.0.1 or .2; a server on the second one."""
    for number, (end, other) in enumerate((ends, ends[::-1]), 1):
        words = ["type", "vxlan", "id", "7", "remote", other.inner, "local", end.inner]
        end.host.ip("link", "add", "vx", *words, "dstport", "4789", checksums, "dev", end.interface)
        end.host.ip("address", "add", f"10.77.0.{number}/24", "dev", "vx")
        end.host.ip("link", "set", "vx", "up", "mtu", "1370")
    try:
        ends[0].ping("10.77.0.2")
        yield Iperf3Server(ends[1].host)
    finally:
        for end in ends:
            end.host.ip("link", "delete", "vx")


def message_len(inner: int, mtu: int) -> int:
    """Of the data message that carries an inner packet (whitepaper 5.4.6: padded, but not over the MTU)."""
    return max(inner, min(-(-inner // 16) * 16, mtu)) + MESSAGE_OVERHEAD


SIZES = [0, 4, 5, 84, 1000, 1419 - ICMP_HEADERS, 1420 - ICMP_HEADERS]


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_data_messages_are_counted_to_the_byte(ends: tuple[End, End], pair: tuple[str, str]) -> None:
    start_and_connect(ends, *pair)
    a, b = ends
    a.ping(b.inner)
    before = a.transfer(b), b.transfer(a)
    for size in SIZES:
        a.ping(b.inner, f"-s{size}")
    expected = PINGS * sum(message_len(ICMP_HEADERS + size, 1420) for size in SIZES)
    for end, other, (received, sent) in ((a, b, before[0]), (b, a, before[1])):
        assert end.transfer(other) == (received + expected, sent + expected)


def test_handshake_messages_are_counted_too(ends: tuple[End, End]) -> None:
    start_and_connect(ends)
    a, b = ends
    a.ping(b.inner)
    pings = PINGS * message_len(84, 1420)
    assert a.transfer(b) == (pings + RESPONSE_LEN, pings + INITIATION_LEN)
    assert b.transfer(a) == (pings + INITIATION_LEN, pings + RESPONSE_LEN)


def test_padding_never_exceeds_the_present_mtu(ends: tuple[End, End]) -> None:
    """Which is how an outside observer sees that a change of the interface's MTU was followed."""
    start_and_connect(ends)
    a, b = ends
    inner = 1401

    def message_sent() -> int:
        before = a.transfer(b)[1]
        assert a.reaches(b.inner, f"-s{inner - ICMP_HEADERS}")
        return a.transfer(b)[1] - before

    a.ping(b.inner)
    assert message_sent() == 1408 + MESSAGE_OVERHEAD
    a.set_mtu(1404)
    wait_until(lambda: message_sent() == 1404 + MESSAGE_OVERHEAD, 5, "the new MTU is followed")


def test_a_tunnel_in_a_tunnel(ends: tuple[End, End]) -> None:
    start_and_connect(ends)
    a, b = ends
    inner_ends = (
        End(a.host, "i" + a.interface, a.inner, a.inner6, "10.10.0.1", "fd10::1", 51821, "inner-key"),
        End(b.host, "i" + b.interface, b.inner, b.inner6, "10.10.0.2", "fd10::2", 51821, "inner-key"),
    )
    with sockets_removed(*inner_ends):
        for end in inner_ends:
            end.make_key()
            end.start()
            end.set_mtu(1340)
        connect(inner_ends, endpoint="v6")
        ping_both_ways(inner_ends)
        send_file(a.host, b.host, inner_ends[1].inner, megabytes=4)
