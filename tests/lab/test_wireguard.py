"""`wh-wireguard` against Debian's wireguard-go, configured by `wg`, on real interfaces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labnet import Lab
from pinging import RunningPing, lost
from wireguard_ends import End, connect, ping_both_ways, same_wire, sockets_removed


@pytest.fixture
def ends(lab: Lab) -> Iterator[tuple[End, End]]:
    made = same_wire(lab)
    with sockets_removed(*made):
        yield made


@pytest.mark.parametrize("psk", [False, True], ids=["no psk", "psk"])
def test_wireguard_go_and_we_ping_each_other(ends: tuple[End, End], psk: bool) -> None:
    theirs, ours = ends
    theirs.start("go")
    ours.start()  # returns with the interface made, as wireguard-go does
    connect(ends, psk=psk)
    ping_both_ways(ends)
    shown = ours.host.run(["wg", "show", ours.interface]).stdout
    assert theirs.public_key in shown
    assert "latest handshake" in shown
    assert ("preshared key" in shown) == psk


def test_no_ping_is_lost_across_rekeys_with_wireguard_go(ends: tuple[End, End]) -> None:
    theirs, ours = ends
    theirs.start("go")
    ours.start("console")
    connect(ends, psk=True)
    ping = RunningPing(theirs.host, ours.inner, per_second=100)
    first = ours.handshake_time(theirs)
    for _ in range(3):
        ping.wait_for_answers(50)
        ours.tell(f"rekey {theirs.public_key}")
    ping.wait_for_answers(50)
    assert ours.handshake_time(theirs) > first
    assert lost(ping.stop()) <= 1  # the packet under way when ping ended
    ping_both_ways(ends)


def test_the_interpreter_lock_held_for_5_s_costs_no_packet(ends: tuple[End, End]) -> None:
    for end in ends:
        end.start("console")
    connect(ends)
    ping = RunningPing(ends[0].host, ends[1].inner, per_second=100)
    before = ends[0].handshake_time(ends[1])
    ends[1].tell("hold 5")
    ping.wait_for_answers(100)
    ends[0].tell(f"rekey {ends[1].public_key}")
    ping.wait_for_answers(100)
    assert ends[0].handshake_time(ends[1]) > before, "the handshake was answered while the lock was held"
    ping.wait_for_answers(400)
    assert lost(ping.stop()) <= 1


def test_wrong_configurations_are_refused_and_change_nothing(ends: tuple[End, End]) -> None:
    ours = ends[0]
    ours.start()
    good = ends[1].public_key
    ours.host.run(["wg", "set", ours.interface, "peer", good, "allowed-ips", "10.9.0.2/32"])
    zeros = "A" * 43 + "="
    assert ours.host.run(["wg", "set", ours.interface, "peer", zeros], check=False).returncode != 0
    for junk in (
        "set=2\n\n",
        "get=1\nx\n\n",
        "set=1\npublic_key=zz\n\n",
        "x" * 10_000,
        "set=1\nfwmark=-1\n\n",
    ):
        ours.host.run(["ncat", "-U", ours.uapi_socket, "-i", "500ms"], input=junk, check=False)
    assert ours.host.run(["wg", "show", ours.interface, "allowed-ips"]).stdout.split() == [
        good,
        "10.9.0.2/32",
    ]
    busy = ours.host.run(["wh-wireguard", ours.interface], check=False)
    assert busy.returncode == 1
    assert "WH211" in busy.stderr
