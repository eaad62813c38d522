"""WireGuard's configuration protocol on a data plane, as a client sees it."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uapi_connection import FakeDevice, Refusal, UapiClient, served

from whcore.datapath import Datapath
from whcore.keys import SecretKey

KEYS = [SecretKey.generate().public_key.hex() for _ in range(4)]
SECRET = "40" + "42" * 30 + "41"  # clamped: its low three bits are 0, bit 254 is 1
OTHER_SECRET = "50" + "42" * 30 + "41"
LOW_ORDER_KEY = "01" + "00" * 31
ZEROS = "00" * 32


@pytest.fixture
def datapath() -> Iterator[Datapath]:
    made = Datapath(None)
    yield made
    made.close()


@pytest.fixture
def device(datapath: Datapath) -> FakeDevice:
    made = FakeDevice()
    for family in (socket.AF_INET, socket.AF_INET6):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        made.numbers[family == socket.AF_INET] = datapath.add_socket(udp.detach())
    return made


@pytest.fixture
def client(datapath: Datapath, device: FakeDevice) -> Iterator[UapiClient]:
    with served(datapath, device) as made:
        yield made


def value(lines: list[tuple[str, str]], wanted: str) -> list[str]:
    return [text for name, text in lines if name == wanted]


def public_key_of(secret: str) -> str:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(bytes.fromhex(secret)).public_key().public_bytes_raw().hex()


# --- what is set is what is told --------------------------------------------------------------------------


def test_a_device_without_anything_tells_its_port_only(client: UapiClient) -> None:
    assert client.get() == [("listen_port", "1234")]


def test_the_device_is_told_as_it_was_set(client: UapiClient, datapath: Datapath) -> None:
    client.set(f"private_key={SECRET}", "listen_port=51820", "fwmark=4660")
    assert client.get() == [("private_key", SECRET), ("listen_port", "51820"), ("fwmark", "4660")]
    assert datapath.secret.public_key.hex() == public_key_of(SECRET)
    client.set(f"private_key={ZEROS}", "fwmark=0")
    assert client.get() == [("listen_port", "51820")]


def test_a_peer_is_told_as_it_was_set(client: UapiClient) -> None:
    client.set(
        f"public_key={KEYS[0]}",
        f"preshared_key={SECRET}",
        "endpoint=192.0.2.1:51820",
        "persistent_keepalive_interval=25",
        "allowed_ip=10.0.0.7/8",
        "allowed_ip=2001:db8::1/128",
    )
    assert client.peers() == {
        KEYS[0]: [
            ("preshared_key", SECRET),
            ("protocol_version", "1"),
            ("endpoint", "192.0.2.1:51820"),
            ("last_handshake_time_sec", "0"),
            ("last_handshake_time_nsec", "0"),
            ("tx_bytes", "0"),
            ("rx_bytes", "0"),
            ("persistent_keepalive_interval", "25"),
            ("allowed_ip", "10.0.0.0/8"),
            ("allowed_ip", "2001:db8::1/128"),
        ]
    }
    client.set(f"public_key={KEYS[0]}", f"preshared_key={ZEROS}", "persistent_keepalive_interval=0")
    lines = client.peers()[KEYS[0]]
    assert value(lines, "preshared_key") == [ZEROS]
    assert value(lines, "persistent_keepalive_interval") == ["0"]


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("192.0.2.1:1", "192.0.2.1:1"),
        ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
        ("[::ffff:192.0.2.1]:9", "192.0.2.1:9"),
        ("[fe80::1%lo]:7", "[fe80::1%lo]:7"),
        ("[fe80::1%1]:7", "[fe80::1%lo]:7"),
        ("[fe80::1%4000000]:7", "[fe80::1%4000000]:7"),
        ("[2001:db8::1%lo]:7", "[2001:db8::1]:7"),
    ],
)
def test_endpoints_of_both_families(client: UapiClient, endpoint: str, told: str) -> None:
    client.set(f"public_key={KEYS[0]}", f"endpoint={endpoint}")
    assert value(client.peers()[KEYS[0]], "endpoint") == [told]


@dataclass
class Model:
    """What a device should hold: by key its psk, keepalive and prefixes."""

    peers: dict[str, tuple[str, int]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)  # prefix -> key

    def remove(self, key: str) -> None:
        del self.peers[key]
        self.clear(key)

    def clear(self, key: str) -> None:
        self.owners = {prefix: owner for prefix, owner in self.owners.items() if owner != key}

    def apply(self, key: str, lines: list[str]) -> None:
        created = key not in self.peers
        self.peers.setdefault(key, (ZEROS, 0))
        for line in lines:
            name, _, text = line.partition("=")
            psk, keepalive = self.peers[key]
            if name == "remove" or (name == "update_only" and created):
                self.remove(key)
                return
            if name == "preshared_key":
                self.peers[key] = text, keepalive
            elif name == "persistent_keepalive_interval":
                self.peers[key] = psk, int(text)
            elif name == "replace_allowed_ips":
                self.clear(key)
            elif name == "allowed_ip":
                prefix = str(ipaddress.ip_network(text.removeprefix("-"), strict=False))
                if not text.startswith("-"):
                    self.owners[prefix] = key
                elif self.owners.get(prefix) == key:
                    del self.owners[prefix]

    def told(self) -> dict[str, tuple[str, int, set[str]]]:
        return {
            key: (*settings, {prefix for prefix, owner in self.owners.items() if owner == key})
            for key, settings in self.peers.items()
        }


PREFIXES = ["10.0.0.0/8", "10.1.2.3/16", "10.1.2.3", "0.0.0.0/0", "::/0", "2001:db8::/32", "2001:db8::1/128"]
PEER_LINES = st.one_of(
    st.sampled_from(PREFIXES).map("allowed_ip={}".format),
    st.sampled_from(PREFIXES).map("allowed_ip=-{}".format),
    st.sampled_from([ZEROS, SECRET]).map("preshared_key={}".format),
    st.integers(0, 65535).map("persistent_keepalive_interval={}".format),
    st.sampled_from(["remove=true", "update_only=true", "replace_allowed_ips=true", "protocol_version=1"]),
)
REQUESTS = st.lists(
    st.lists(st.tuples(st.sampled_from(KEYS), st.lists(PEER_LINES, max_size=6)), max_size=4), max_size=4
)


@given(requests=REQUESTS)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_any_requests_leave_the_peers_that_they_describe(
    requests: list[list[tuple[str, list[str]]]],
) -> None:
    model = Model()
    datapath = Datapath(None)
    try:
        with served(datapath, FakeDevice()) as client:
            for request in requests:
                client.set(*(line for key, lines in request for line in (f"public_key={key}", *lines)))
                for key, lines in request:
                    model.apply(key, lines)
            told = {
                key: (
                    *value(lines, "preshared_key"),
                    int(*value(lines, "persistent_keepalive_interval")),
                    set(value(lines, "allowed_ip")),
                )
                for key, lines in client.peers().items()
            }
        assert told == model.told()
    finally:
        datapath.close()


def test_replacing_peers_leaves_only_the_new_ones(client: UapiClient) -> None:
    client.set(f"public_key={KEYS[0]}", f"public_key={KEYS[1]}")
    client.set("replace_peers=true", f"public_key={KEYS[2]}")
    assert list(client.peers()) == [KEYS[2]]


def test_a_hundred_thousand_prefixes_go_in_and_come_out(client: UapiClient) -> None:
    prefixes = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}/32" for i in range(100_000)]
    client.set(f"public_key={KEYS[0]}", *(f"allowed_ip={prefix}" for prefix in prefixes))
    assert value(client.peers()[KEYS[0]], "allowed_ip") == prefixes


# --- keys ---------------------------------------------------------------------------------------------------


def test_the_key_that_is_set_already_changes_nothing(client: UapiClient, datapath: Datapath) -> None:
    client.set(f"private_key={SECRET}")
    before = datapath.secret
    client.set(f"private_key={SECRET}")
    assert datapath.secret is before, "sessions of a device whose configuration is synchronised live on"
    client.set(f"private_key={OTHER_SECRET}")
    assert client.device()["private_key"] == OTHER_SECRET


def test_a_device_is_never_its_own_peer(client: UapiClient) -> None:
    own = public_key_of(SECRET)
    client.set(f"public_key={own}", f"public_key={KEYS[0]}")
    client.set(f"private_key={SECRET}")
    assert list(client.peers()) == [KEYS[0]], "the new key removes the peer that it is of"
    client.set(f"public_key={own}", "allowed_ip=10.0.0.1/32", f"public_key={KEYS[1]}")
    assert set(client.peers()) == {KEYS[0], KEYS[1]}


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (["junk"], errno.EPROTO),
        (["unknown=1"], errno.EINVAL),
        (["endpoint=192.0.2.1:5"], errno.EINVAL),
        (["private_key=" + SECRET[:-1]], errno.EINVAL),
        (["private_key=" + SECRET[:-1] + "g"], errno.EINVAL),
        (["listen_port=65536"], errno.EINVAL),
        (["listen_port=-1"], errno.EINVAL),
        (["listen_port="], errno.EINVAL),
        (["fwmark=4294967296"], errno.EINVAL),
        (["fwmark=\u0661"], errno.EINVAL),
        (["replace_peers=false"], errno.EINVAL),
        ([f"public_key={LOW_ORDER_KEY}"], errno.EINVAL),
        ([f"public_key={ZEROS}"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "listen_port=5"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "remove=1"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "protocol_version=2"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "persistent_keepalive_interval=65536"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "preshared_key=00"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "endpoint=192.0.2.1:0"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "endpoint=192.0.2.1"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "endpoint=host:5"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "endpoint=[fe80::1%nosuchlink]:5"], errno.ENODEV),
        ([f"public_key={KEYS[0]}", "allowed_ip=10.0.0.0/33"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "allowed_ip=10.0.0.0/"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "allowed_ip=10.0.0.0/0000"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "allowed_ip=10.0.0.0/ 8"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "allowed_ip=::/129"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "allowed_ip=--10.0.0.0/8"], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "allowed_ip="], errno.EINVAL),
        ([f"public_key={KEYS[0]}", "allowed_ip=" + "1" * 200], errno.EINVAL),
    ],
)
def test_errors_are_answered_with_their_errno_and_end_the_request(
    client: UapiClient, lines: list[str], number: int
) -> None:
    assert client.refusal(*lines, f"public_key={KEYS[1]}") == number
    assert KEYS[1] not in client.peers(), "nothing after the error was done, and the connection goes on"


def test_a_port_that_cannot_be_had_is_told(client: UapiClient, device: FakeDevice) -> None:
    device.refusal = OSError(errno.EADDRINUSE, "taken")
    assert client.refusal("listen_port=5") == errno.EADDRINUSE


@pytest.mark.parametrize("error", [TypeError("not foreseen"), AssertionError(), RuntimeError()])
def test_an_error_that_nobody_foresaw_is_answered_and_ends_no_connection(
    client: UapiClient, device: FakeDevice, error: Exception
) -> None:
    device.refusal = error
    assert client.refusal("fwmark=5", f"public_key={KEYS[0]}") == errno.EIO
    device.fwmark = "five"  # type: ignore[assignment]
    with pytest.raises(Refusal, match=str(errno.EIO)):
        client.get()
    device.fwmark, device.refusal = 0, None
    client.set("fwmark=4294967295")
    assert device.fwmark == 2**32 - 1
    assert not client.peers()


def test_an_endpoint_of_a_family_that_the_host_lacks_is_refused(
    client: UapiClient, device: FakeDevice
) -> None:
    del device.numbers[False]
    assert client.refusal(f"public_key={KEYS[0]}", "endpoint=[2001:db8::1]:5") == errno.EAFNOSUPPORT


@pytest.mark.parametrize(
    "text", ["hello\n", "set=2\n\n", "get=1", "x" * 10_000, "\n", "\0\n", "set=1\nfwmark="]
)
def test_what_is_no_request_ends_the_connection(client: UapiClient, text: str) -> None:
    client.send(text)
    client.connection.shutdown(socket.SHUT_WR)
    with pytest.raises((EOFError, ConnectionResetError)):  # reset: it closed before it had read everything
        client.answer()


@given(
    data=st.lists(st.sampled_from([b"set=1", b"get=1", b"public_key=", b"=", b"\n", b"-", KEYS[0].encode()]))
)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_no_input_breaks_the_server(data: list[bytes]) -> None:
    datapath = Datapath(None)
    try:
        with served(datapath, FakeDevice()) as client:
            client.connection.sendall(b"".join(data))
            client.connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while client.connection.recv(65536):
                    pass
    finally:
        datapath.close()


# --- policy and several clients -----------------------------------------------------------------------------


class Strict:
    """Only the keepalive of a first peer, and anything of others but one prefix."""

    def permits_device_change(self, name: str) -> bool:
        return name == "fwmark"

    def permits_peer_change(self, public_key: bytes, name: str) -> bool:
        return public_key.hex() != KEYS[0] or name == "persistent_keepalive_interval"

    def permits_allowed_ip(self, address: bytes, prefix_len: int) -> bool:
        return (address, prefix_len) != (b"\x0a\0\0\1", 32)


def test_what_the_policy_does_not_permit_is_answered_with_eperm(
    datapath: Datapath, device: FakeDevice
) -> None:
    datapath.add_peer(bytes.fromhex(KEYS[0]))
    with served(datapath, device, Strict()) as client:
        for line in (f"private_key={SECRET}", "listen_port=5", "replace_peers=true"):
            assert client.refusal(line) == errno.EPERM
        client.set("fwmark=7")
        first, second = f"public_key={KEYS[0]}", f"public_key={KEYS[1]}"
        for line in (
            "remove=true",
            "endpoint=192.0.2.1:5",
            "allowed_ip=10.0.0.2/32",
            f"preshared_key={SECRET}",
        ):
            assert client.refusal(first, line) == errno.EPERM
        client.set(first, "persistent_keepalive_interval=9", second, "allowed_ip=10.0.0.2/32")
        assert client.refusal(second, "allowed_ip=10.0.0.1/32") == errno.EPERM
        told = client.peers()
    assert value(told[KEYS[0]], "persistent_keepalive_interval") == ["9"]
    assert value(told[KEYS[1]], "allowed_ip") == ["10.0.0.2/32"]
    assert (device.fwmark, device.listen_port, datapath.secret) == (7, 1234, None)


def test_a_client_that_stops_in_the_middle_holds_up_nobody(datapath: Datapath, device: FakeDevice) -> None:
    lock = threading.Lock()
    with served(datapath, device, lock=lock) as slow, served(datapath, device, lock=lock) as quick:
        slow.send(f"set=1\npublic_key={KEYS[0]}\nallowed_ip=10.0.0.1/32\nallowed")
        while KEYS[0] not in quick.peers():
            pass
        quick.set(f"public_key={KEYS[1]}")
        slow.send("_ip=10.0.0.2/32\n\n")
        assert slow.answer() == []
        assert value(quick.peers()[KEYS[0]], "allowed_ip") == ["10.0.0.1/32", "10.0.0.2/32"]
