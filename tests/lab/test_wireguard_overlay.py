"""`wg` on the interface of a WireHub node: it shows all, and changes what the network file leaves open."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from labnet import wait_until
from pinging import answers_within
from tutorial import ADDRESSES, Tutorial
from wireguard_ends import UAPI_DIRECTORY, End, sockets_removed

PLAIN = "10.77.0.1"  # inner address of a host that only speaks WireGuard


def wg_key(key: str) -> str:
    """A public key as `wg` writes it."""
    return base64.b64encode(base64.urlsafe_b64decode(key + "=")).decode()


class Overlay:
    """Node A and node B, each with an interface name of its own on this machine."""

    def __init__(self, tutorial: Tutorial) -> None:
        self.tutorial = tutorial
        self.a, self.b = tutorial.node_a, tutorial.node_b
        self.interfaces = {host: f"{host.name[-1]}-{tutorial.lab.token}" for host in (self.a, self.b)}
        self.key_b = wg_key(tutorial.keys["node_b"])

    @property
    def interface(self) -> str:
        """Node A's."""
        return self.interfaces[self.a]

    def start(self) -> None:
        self.tutorial.up(self.tutorial.bootstrap)
        for host, interface in self.interfaces.items():
            host.shell(f"wh up ./config private-key ./{host.name}.sk interface {interface}")

    def show(self, what: str) -> list[str]:
        return self.a.run(["wg", "show", self.interface, what]).stdout.split()

    def refused(self, *words: str) -> bool:
        """Whether `wg set` on node A's interface says that it is not permitted."""
        answer = self.a.run(["wg", "set", self.interface, *words], check=False)
        return answer.returncode != 0 and "Operation not permitted" in answer.stderr

    def reaches_b(self) -> bool:
        return answers_within(self.a, ADDRESSES["node_b"], 15)


@pytest.fixture
def overlay(tutorial: Tutorial) -> Iterator[Overlay]:
    made = Overlay(tutorial)
    made.start()
    yield made
    for interface in made.interfaces.values():
        (UAPI_DIRECTORY / f"{interface}.sock").unlink(missing_ok=True)


def test_wg_shows_members_and_changes_only_what_the_file_leaves_open(overlay: Overlay) -> None:
    assert overlay.reaches_b()
    assert overlay.show("peers") == [overlay.key_b]
    assert f"{ADDRESSES['node_b']}/32" in overlay.show("allowed-ips")
    assert int(overlay.show("latest-handshakes")[1]) > 0
    shown = overlay.a.run(["wg", "showconf", overlay.interface]).stdout
    assert "PrivateKey = " in shown
    assert overlay.key_b in shown

    overlay.a.shell("wg genkey > other")
    assert overlay.refused("private-key", "other")
    assert overlay.refused("listen-port", "5555")
    member = ("peer", overlay.key_b)
    for words in (("remove",), ("endpoint", "192.0.2.7:5"), ("allowed-ips", "10.9.9.9/32")):
        assert overlay.refused(*member, *words)
    (overlay.a.directory / "nothing").write_text("[Interface]\n")
    assert overlay.a.run(["wg", "setconf", overlay.interface, "nothing"], check=False).returncode != 0

    overlay.a.run(["wg", "set", overlay.interface, "fwmark", "7", *member, "persistent-keepalive", "9"])
    assert overlay.show("fwmark") == ["0x7"]
    assert overlay.show("persistent-keepalive") == [overlay.key_b, "9"]
    assert overlay.show("peers") == [overlay.key_b]
    assert overlay.reaches_b()


def test_a_plain_wireguard_host_joins_as_a_static_peer(overlay: Overlay) -> None:
    tutorial = overlay.tutorial
    host = tutorial.lab.host("plain")
    host.attach(tutorial.networks["net_a"], "198.51.100.20/24")
    plain = End(host, f"p-{tutorial.lab.token}", "198.51.100.20", "", PLAIN, "fd77::1")
    with sockets_removed(plain):
        plain.make_key()
        plain.start("go")
        plain.listen()
        own = ADDRESSES["node_a"]
        key_a, port = overlay.show("public-key")[0], overlay.show("listen-port")[0]
        plain.wg_set("peer", key_a, "allowed-ips", f"{own}/32", "endpoint", f"198.51.100.10:{port}")
        host.ip("route", "add", f"{own}/32", "dev", plain.interface)
        taken = f"{ADDRESSES['node_b']}/32"
        assert overlay.refused("peer", plain.public_key, "allowed-ips", taken), "a member keeps its address"
        overlay.a.run(
            ["wg", "set", overlay.interface, "peer", plain.public_key, "allowed-ips", f"{PLAIN}/32"]
        )
        overlay.a.ip("route", "add", f"{PLAIN}/32", "dev", overlay.interface)
        plain.ping(own)
        assert overlay.a.run(["ping", "-c1", "-W2", PLAIN]).returncode == 0
        overlay.a.run(["wh", "reload", overlay.interface])
        assert set(overlay.show("peers")) == {overlay.key_b, plain.public_key}
        assert overlay.reaches_b()
        overlay.a.run(["wg", "set", overlay.interface, "peer", plain.public_key, "remove"])
        assert overlay.show("peers") == [overlay.key_b]


def test_the_configuration_socket_goes_with_the_node(overlay: Overlay) -> None:
    sockets = [UAPI_DIRECTORY / f"{interface}.sock" for interface in overlay.interfaces.values()]
    assert all(path.exists() for path in sockets)
    overlay.a.run(["wh", "down", overlay.interface])
    wait_until(lambda: not sockets[0].exists(), 5, "the socket is removed")
    assert sockets[1].exists()


def test_the_namespace_of_a_node_s_interface_may_change(overlay: Overlay) -> None:
    assert overlay.reaches_b()
    elsewhere = overlay.tutorial.lab.host("elsewhere")
    overlay.a.ip("link", "set", overlay.interface, "netns", elsewhere.namespace)
    elsewhere.ip("address", "add", f"{ADDRESSES['node_a']}/24", "dev", overlay.interface)
    elsewhere.ip("link", "set", overlay.interface, "up")
    assert answers_within(elsewhere, ADDRESSES["node_b"], 10), "its UDP sockets stayed behind"
    elsewhere.ip("link", "delete", overlay.interface)
    socket = UAPI_DIRECTORY / f"{overlay.interface}.sock"
    wait_until(lambda: not socket.exists(), 10, "the node ends with its interface")
