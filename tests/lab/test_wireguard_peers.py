"""Keys and peers that change while traffic flows, and those that must not be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labnet import Lab, wait_until
from wireguard_ends import (
    PINGS,
    End,
    Iperf3Server,
    PacketCounter,
    connect,
    ping_both_ways,
    same_wire,
    sockets_removed,
    start_and_connect,
)

MANY = 102_400
# Of order 1, 2, 4 and 8 on Curve25519 and its twist, and encodings of them that are not reduced
# (https://cr.yp.to/ecdh.html, "Security").
LOW_ORDER_KEYS = [
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=",
    "X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc=",
    "7P///////////////////////////////////////38=",
    "7f///////////////////////////////////////38=",
    "7v///////////////////////////////////////38=",
]


@pytest.fixture
def ends(lab: Lab) -> Iterator[tuple[End, End]]:
    made = same_wire(lab)
    with sockets_removed(*made):
        yield made


@pytest.mark.parametrize("pair", [("ours", "ours"), ("ours", "go")], ids=" and ".join)
def test_the_private_key_changes_live(ends: tuple[End, End], pair: tuple[str, str]) -> None:
    start_and_connect(ends, *pair)
    a, b = ends
    ping_both_ways(ends)
    former = a.public_key
    a.make_key()
    b.wg_set("peer", former, "remove")
    b.know(a)
    a.wg_set("private-key", a.key_file)
    ping_both_ways(ends)
    assert list(b.show("transfer")) == [a.public_key]


def test_the_same_private_key_again_ends_no_session(ends: tuple[End, End]) -> None:
    start_and_connect(ends)
    a, b = ends
    a.ping(b.inner)
    handshake, before = a.handshake_time(b), a.transfer(b)
    a.wg_set("private-key", a.key_file)
    a.ping(b.inner)
    assert a.handshake_time(b) == handshake
    assert a.transfer(b)[1] == before[1] + PINGS * 128, "pings, and no handshake"


def test_without_a_private_key_nothing_is_sent_until_there_is_one(ends: tuple[End, End]) -> None:
    start_and_connect(ends)
    a, b = ends
    ping_both_ways(ends)
    a.host.shell(f"wg set {a.interface} private-key /dev/null")
    assert a.host.run(["wg", "show", a.interface, "private-key"]).stdout.strip() == "(none)"
    sent = PacketCounter(a.host, f"udp dport {b.port}", "output")
    assert not a.reaches(b.inner)
    assert sent.packets == 0
    a.wg_set("private-key", a.key_file)
    wait_until(lambda: a.reaches(b.inner), 10, "the tunnel comes back with the key")


def test_a_peer_with_a_wrong_preshared_key_gets_no_session(ends: tuple[End, End]) -> None:
    for end in ends:
        end.start()
    connect(ends, psk=True)
    a, b = ends
    a.ping(b.inner)
    a.host.shell("wg genpsk > other")
    a.set_peer(b, "preshared-key", a.host.directory / "other")
    a.wg_set("peer", b.public_key, "remove")
    a.know(b, "preshared-key", a.host.directory / "other")
    assert not a.reaches(b.inner)
    a.set_peer(b, "preshared-key", a.host.directory / "psk")
    wait_until(lambda: a.reaches(b.inner), 12, "the right one is used from the next handshake on")


def test_a_device_refuses_to_be_its_own_peer(ends: tuple[End, End]) -> None:
    start_and_connect(ends)
    a, b = ends
    a.set_peer(a, "allowed-ips", f"{b.inner}/32")
    assert list(a.show("allowed-ips")) == [b.public_key]
    ping_both_ways(ends)
    a.host.shell("wg genkey > other; wg pubkey < other > other.public")
    own = (a.host.directory / "other.public").read_text().strip()
    a.wg_set("peer", own, "allowed-ips", "10.9.0.99/32")
    a.wg_set("private-key", "other")
    assert list(a.show("allowed-ips")) == [b.public_key]


def test_keys_of_low_order_emit_nothing(ends: tuple[End, End]) -> None:
    a, b = ends
    a.start()
    a.listen()
    sent = PacketCounter(a.host, f"udp dport {b.port}", "output")
    for number, key in enumerate(LOW_ORDER_KEYS):
        inner = f"10.9.0.{100 + number}"
        words = ("allowed-ips", f"{inner}/32", "endpoint", f"{b.outer}:{b.port}")
        refused = a.wg_set("peer", key, *words, "persistent-keepalive", "1", check=False)
        assert refused.returncode != 0
        a.host.run(["ping", "-c1", "-w0.1", inner], check=False)
    assert sent.packets == 0
    assert a.show("allowed-ips") == {}


def test_over_100_000_allowed_ips(ends: tuple[End, End]) -> None:
    start_and_connect(ends)
    a, b = ends
    ping_both_ways(ends)
    prefixes = [f"10.{128 + (i >> 16)}.{i >> 8 & 255}.{i & 255}/32" for i in range(MANY // 2)]
    prefixes += [f"fd0a::{i:x}/128" for i in range(1, MANY // 2)]
    lines = ["[Peer]", f"PublicKey = {b.public_key}"]
    lines += [f"AllowedIPs = {', '.join(prefixes[i : i + 1000])}" for i in range(0, MANY, 1000)]
    lines += [f"AllowedIPs = {b.inner}/32, {b.inner6}/128"]
    (a.host.directory / "many").write_text("\n".join(lines) + "\n")
    a.host.run(["wg", "addconf", a.interface, "many"])
    assert set(a.show("allowed-ips")[b.public_key]) == {*prefixes, f"{b.inner}/32", f"{b.inner6}/128"}
    ping_both_ways(ends)
    a.set_peer(b, "allowed-ips", f"{b.inner}/32,{b.inner6}/128")
    assert a.show("allowed-ips")[b.public_key] == [f"{b.inner}/32", f"{b.inner6}/128"]
    ping_both_ways(ends)


@pytest.mark.parametrize("direction", [(), ("-R",)], ids=["sending", "receiving"])
def test_peers_come_and_go_under_load(ends: tuple[End, End], direction: tuple[str, ...]) -> None:
    start_and_connect(ends)
    a, b = ends
    ping_both_ways(ends)
    keys = a.host.shell("for i in $(seq 8); do wg genkey | wg pubkey; done").stdout.split()
    stream = Iperf3Server(b.host).start_client(a.host, b.inner, "-u", "-b50M", "-t30", *direction)
    wait_until(lambda: max(a.transfer(b)) > 1_000_000, 10, "there is load")
    added = ("allowed-ips", "10.9.1.0/24", "endpoint", "192.0.2.9:9", "persistent-keepalive", "1")
    removed = (*keys, b.public_key)
    for _ in range(10):
        a.wg_set(*(word for key in keys for word in ("peer", key, *added)))
        a.wg_set(*(word for key in removed for word in ("peer", key, "remove")))
        a.know(b)
        a.reaches(b.inner, "-W0.2")
    stream.kill()
    # An initiation that follows another within 20 ms is dropped as a flood, and repeated after 5 s.
    wait_until(lambda: a.reaches(b.inner), 10, "the tunnel works again")
    ping_both_ways(ends)
    assert list(a.show("allowed-ips")) == [b.public_key]


def test_several_clients_configure_one_device_at_once(ends: tuple[End, End]) -> None:
    a = ends[0]
    a.start()
    keys = a.host.shell("for i in $(seq 6); do wg genkey | wg pubkey; done").stdout.split()
    command = "for i in $(seq 0 30); do wg set {} peer {} allowed-ips 10.{}.$i.0/24; done"
    clients = [
        a.host.popen(["bash", "-ec", command.format(a.interface, key, n)]) for n, key in enumerate(keys)
    ]
    for client in clients:
        assert client.wait(20) == 0
    assert a.show("allowed-ips") == {key: [f"10.{n}.30.0/24"] for n, key in enumerate(keys)}
