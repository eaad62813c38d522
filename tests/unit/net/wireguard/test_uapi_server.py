"""The configuration socket: its file, its clients, and what may be changed on a `wh` interface."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from uapi_connection import PATIENCE_S, FakeDevice, UapiClient

from wh.errors import SystemSetupError
from wh.net.wireguard import uapi_server
from wh.net.wireguard.uapi_server import FullControl, OverlayControl, UapiServer, open_uapi_socket
from whcore.datapath import Datapath
from whcore.keys import SecretKey

MEMBER, STRANGER = (SecretKey.generate().public_key for _ in range(2))
EMPTY = [("listen_port", "1234")]


class World:
    """A server in a directory of its own, and its clients."""

    def __init__(self, directory: Path, *, client_timeout_s: float = PATIENCE_S) -> None:
        self.path = directory / "wg0.sock"
        self.datapath = Datapath(None)
        listener = open_uapi_socket("wg0", directory)
        self.server = UapiServer(
            listener, self.datapath, FakeDevice(), FullControl(), client_timeout_s=client_timeout_s
        )
        self.server.start()
        self._clients: list[UapiClient] = []

    def connect(self) -> UapiClient:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        connection.connect(str(self.path))
        self._clients.append(UapiClient(connection))
        return self._clients[-1]

    def close(self) -> None:
        self.server.close()
        self.datapath.close()
        for client in self._clients:
            client.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def is_ended(client: UapiClient) -> bool:
    try:
        return client.connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_only_the_owner_may_connect(world: World) -> None:
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    assert world.connect().get() == EMPTY


def test_the_directory_is_made_for_everyone_to_look_into(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "wireguard"
    old_umask = os.umask(0o022)
    try:
        open_uapi_socket("wg0", directory).close()
    finally:
        os.umask(old_umask)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755


def test_a_file_that_nobody_serves_is_replaced(tmp_path: Path) -> None:
    open_uapi_socket("wg0", tmp_path).close()
    assert (tmp_path / "wg0.sock").exists()
    world = World(tmp_path)
    assert world.connect().get() == EMPTY
    world.close()
    assert not (tmp_path / "wg0.sock").exists()


def test_a_device_that_listens_is_not_replaced(tmp_path: Path) -> None:
    with open_uapi_socket("wg0", tmp_path) as listener:
        listener.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in waiting:  # until nobody more may wait
            client.setblocking(False)
            client.connect_ex(str(tmp_path / "wg0.sock"))
        with pytest.raises(SystemSetupError, match="already serves"):
            open_uapi_socket("wg0", tmp_path)
        for client in waiting:
            client.close()


def test_silent_clients_do_not_keep_others_waiting(world: World) -> None:
    for _ in range(uapi_server.MAX_CLIENTS - 1):
        world.connect().send("set=1\nfwmark=")
    talking = world.connect()
    for _ in range(3):
        assert talking.get() == EMPTY


def test_one_client_too_many_is_turned_away(world: World) -> None:
    clients = [world.connect() for _ in range(uapi_server.MAX_CLIENTS)]
    for client in clients:
        assert client.get() == EMPTY
    assert is_ended(world.connect())
    clients[0].close()
    assert clients[1].get() == EMPTY


def test_a_client_that_stays_silent_is_dropped(tmp_path: Path) -> None:
    world = World(tmp_path, client_timeout_s=0.05)
    try:
        assert is_ended(world.connect())
    finally:
        world.close()


def test_a_client_that_reads_nothing_is_dropped(tmp_path: Path) -> None:
    world = World(tmp_path, client_timeout_s=0.05)
    try:
        world.datapath.add_peer(MEMBER)
        for i in range(20_000):  # an answer that does not fit into the socket's buffer
            world.datapath.add_allowed_ip(MEMBER, ipaddress.IPv4Address(i).packed, 32)
        client = world.connect()
        client.send("get=1\n\n")
        poller = select.poll()
        poller.register(client.connection, select.POLLRDHUP)
        assert poller.poll(PATIENCE_S * 1000), "the connection ends before anything was read"
        answer = b"".join(iter(lambda: client.connection.recv(65536), b""))
        assert answer.startswith(b"listen_port=")
        assert not answer.endswith(b"errno=0\n\n")
    finally:
        world.close()


def test_closing_ends_clients_and_removes_the_file(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.connect()
    assert client.get() == EMPTY
    world.close()
    assert not world.path.exists()


def test_a_removed_file_is_noticed_and_its_successor_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert not world.server.is_removed()
    world.path.unlink()
    assert world.server.is_removed()
    successor = open_uapi_socket("wg0", tmp_path)
    assert world.server.is_removed()
    world.close()
    assert world.path.exists()
    successor.close()


# --- what may be changed on a `wh` interface ----------------------------------------------------------------


@pytest.fixture
def control() -> OverlayControl:
    networks = frozenset(map(ipaddress.ip_network, ("10.0.0.0/24", "fd00::1/128")))
    return OverlayControl(lambda: {MEMBER: networks})


def test_of_the_device_only_the_fwmark(control: OverlayControl) -> None:
    permitted = {
        name
        for name in ("private_key", "listen_port", "fwmark", "replace_peers")
        if control.permits_device_change(name)
    }
    assert permitted == {"fwmark"}


def test_of_members_only_the_keepalive_and_of_others_everything(control: OverlayControl) -> None:
    for name in ("remove", "update_only", "preshared_key", "endpoint", "replace_allowed_ips", "allowed_ip"):
        assert not control.permits_peer_change(MEMBER, name)
        assert control.permits_peer_change(STRANGER, name)
    for peer in (MEMBER, STRANGER):
        assert control.permits_peer_change(peer, "persistent_keepalive_interval")


@pytest.mark.parametrize(
    ("prefix", "permitted"),
    [
        ("10.0.0.0/24", False),
        ("10.0.0.7/32", False),
        ("fd00::1/128", False),
        ("10.0.0.0/23", True),  # the member's is the longer match
        ("10.0.1.0/24", True),
        ("::/0", True),
        ("0.0.0.0/0", True),
    ],
)
def test_no_address_is_taken_from_a_member(control: OverlayControl, prefix: str, permitted: bool) -> None:
    network = ipaddress.ip_network(prefix)
    assert control.permits_allowed_ip(network.network_address.packed, network.prefixlen) == permitted
