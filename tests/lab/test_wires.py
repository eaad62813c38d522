"""Wires carry packets with the impairments they are told, and change them while packets flow."""

from __future__ import annotations

import re
import time

import pytest

import faults
from inside import udp_socket
from internet import Internet
from labnet import Host, Lab, LabError, wait_until
from pinging import lost
from wires import End, Wire, Wires

LEFT, RIGHT = "192.0.2.1", "192.0.2.2"


def wired(lab: Lab, **impairments: float) -> tuple[Host, Host, Wire]:
    left, right = lab.host("left"), lab.host("right")
    wire = Wires(lab).connect(End(left, "eth0"), End(right, "eth0"), **impairments)
    left.assign("eth0", f"{LEFT}/24")
    right.assign("eth0", f"{RIGHT}/24")
    return left, right, wire


def ping(host: Host, address: str, *options: str) -> str:
    return host.run(["ping", "-n", *options, address], check=False).stdout


def test_round_trip_is_twice_the_delay(lab: Lab) -> None:
    left, _, _ = wired(lab, delay_s=0.02)
    output = ping(left, RIGHT, "-c10", "-i0.02")
    assert lost(output) == 0
    fastest = min(float(text) for text in re.findall(r"time=([\d.]+)", output))
    assert 40 <= fastest < 46  # each lane may be 1 ms late, and the machine busy


def test_loss_is_felt_in_the_lane_that_has_it_alone(lab: Lab) -> None:
    left, right, wire = wired(lab)
    assert lost(ping(left, RIGHT, "-c2", "-i0.01")) == 0  # both know each other's Ethernet address
    wire.change(lanes=(0,), loss=1.0)
    senders = {host: udp_socket(host) for host in (left, right)}
    receivers = {host: udp_socket(host, "", 7000) for host in (left, right)}
    senders[left].sendto(b"lost", (RIGHT, 7000))
    senders[right].sendto(b"arrives", (LEFT, 7000))
    assert receivers[left].recv(100) == b"arrives"
    wait_until(lambda: wire.counters()[0]["lost"], 5, "the other one is counted")
    wire.change(lanes=(0,), loss=0.0)
    senders[left].sendto(b"arrives too", (RIGHT, 7000))
    assert receivers[right].recv(100) == b"arrives too"
    for udp in (*senders.values(), *receivers.values()):
        udp.close()


def test_cut_wire_is_silent_and_unplugged_one_is_seen(lab: Lab) -> None:
    left, _, wire = wired(lab)
    wire.cut()
    assert lost(ping(left, RIGHT, "-c1", "-W0.2")) == 1
    assert "LOWER_UP" in left.ip("link", "show", "eth0")
    wire.mend()
    assert lost(ping(left, RIGHT, "-c1", "-W5")) == 0
    wire.unplug()
    wait_until(lambda: "LOWER_UP" not in left.ip("link", "show", "eth0"), 5, "the carrier is gone")
    wire.plug()
    wait_until(lambda: "LOWER_UP" in left.ip("link", "show", "eth0"), 5, "the carrier is back")
    assert lost(ping(left, RIGHT, "-c1", "-w5")) == 0


def test_black_hole_takes_long_packets_only(lab: Lab) -> None:
    left, _, wire = wired(lab)
    wire.change(black_hole_over=1280)
    assert lost(ping(left, RIGHT, "-c1", "-Mdo", "-s1252", "-W5")) == 0
    assert lost(ping(left, RIGHT, "-c1", "-Mdo", "-s1253", "-W0.2")) == 1
    assert wire.counters()[0]["too_long"] == 1


def test_unknown_impairment_is_an_error_and_the_wire_lives_on(lab: Lab) -> None:
    left, _, wire = wired(lab)
    with pytest.raises(LabError, match="colour"):
        wire.change(colour=1)
    assert lost(ping(left, RIGHT, "-c1", "-W5")) == 0


def test_tcp_gets_through_all_impairments_at_once(lab: Lab) -> None:
    left, right, _ = wired(
        lab, delay_s=0.001, jitter_s=0.001, loss=0.01, duplicate=0.02, reorder=0.02, reorder_by_s=0.002
    )
    server = right.popen(["iperf3", "-s", "-1"])
    connect = ["iperf3", "-c", RIGHT, "-n", "1M"]
    wait_until(lambda: left.run(connect, check=False).returncode == 0, 20, "1 MB arrives")
    assert server.wait(5) == 0


def test_internet_with_delays_has_one_wire_a_site(lab: Lab) -> None:
    internet = Internet(lab, publics=2, delay_s=0.01)
    site = internet.site("site", "port-restricted")
    output = ping(site.host, internet.publics[1].public_ipv4, "-c5", "-i0.05")
    fastest = min(float(text) for text in re.findall(r"time=([\d.]+)", output))
    assert 40 <= fastest < 50
    assert site.wire is not None
    site.wire.cut()
    assert lost(ping(site.host, internet.publics[1].public_ipv4, "-c1", "-W0.2")) == 1
    assert lost(ping(internet.publics[0].host, internet.publics[1].public_ipv4, "-c1", "-W5")) == 0


def test_faults_of_a_router_come_and_go(lab: Lab) -> None:
    internet = Internet(lab, publics=1)
    public, site = internet.publics[0], internet.site("site", "port-restricted")
    router, target = site.routers[0], (public.public_ipv4, 7000)
    with udp_socket(public.host, "", 7000) as server, udp_socket(site.host, "", 6000) as client:
        for break_it, mend_it, passes in (
            (faults.block_udp, faults.unblock_udp, 0),
            (lambda each: faults.swallow_longer_than(each, 1000), faults.swallow_nothing, 900),
        ):
            break_it(router)
            client.sendto(bytes(1200), target)
            if passes:
                client.sendto(bytes(passes), target)
            mend_it(router)
            client.sendto(b"last", target)
            arrived = [len(server.recv(2000))]
            while arrived[-1] != 4:
                arrived.append(len(server.recv(2000)))
            assert arrived == ([passes] if passes else []) + [4]


def test_flushed_conntrack_forgets_who_may_come_in(lab: Lab) -> None:
    internet = Internet(lab, publics=1)
    public, site = internet.publics[0], internet.site("site", "port-restricted")
    with udp_socket(public.host, "", 7000) as server, udp_socket(site.host, "", 6000) as client:
        client.sendto(b"out", (public.public_ipv4, 7000))
        _, mapped = server.recvfrom(100)
        faults.flush_conntrack(site.routers[0])
        server.sendto(b"too late", mapped)
        client.sendto(b"again", (public.public_ipv4, 7000))
        server.recvfrom(100)
        server.sendto(b"welcome", mapped)
        assert client.recv(100) == b"welcome"


def test_changed_address_keeps_the_default_route(lab: Lab) -> None:
    internet = Internet(lab, publics=1)
    site = internet.site("site", "port-restricted")
    faults.change_address(site.host, "eth0", "192.168.1.77/24")
    assert site.host.ipv4_addresses("eth0") == ["192.168.1.77"]
    assert lost(ping(site.host, internet.publics[0].public_ipv4, "-c1", "-W5")) == 0


def test_killed_host_runs_nothing(lab: Lab) -> None:
    host = lab.host("host")
    host.popen(["sleep", "1000"])
    started = time.monotonic()
    wait_until(host.pids, 5, "it runs")
    faults.kill(host)
    wait_until(lambda: not host.pids(), 5, "it is dead")
    assert time.monotonic() - started < 10
