"""Two nodes inside this process, each with an interface in a namespace of its own, and TCP between them."""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import private_namespaces
import pytest

import wh
from labnet import wait_until
from wh.config.model import Endpoint, Network, Peer, PeerKind
from wh.daemon.embedded import EmbeddedNode, options_of
from wh.daemon.parts import Options
from wh.engine.events import PingRequested
from wh.errors import IpcError, SystemSetupError
from wh.net.links.host import host_addresses
from wh.net.private.namespace import PrivateNamespace
from whcore.keys import SecretKey, orchid

DOCUMENT = Path(__file__).parents[3] / "docs" / "python.md"
PORT = 7
PATIENCE_S = 10
TRANSFER = 30 << 20


def refusal() -> str | None:
    return private_namespaces.refusal() or (None if host_addresses() else "this host has no address")


pytestmark = pytest.mark.skipif(bool(refusal()), reason=refusal() or "")


class Member:
    def __init__(self, *, with_tun: bool) -> None:
        self.secret = SecretKey.generate()
        self.namespace = PrivateNamespace()
        if not with_tun:
            self.namespace._open_tun_device = refuse  # type: ignore[method-assign]
        self.node: EmbeddedNode | None = None

    @property
    def key(self) -> bytes:
        return self.secret.public_key

    @property
    def address(self) -> str:
        return str(ipaddress.ip_address(orchid(self.key, b"public")))

    def start(self, *peers: Peer) -> int:
        """The UDP port."""
        options = Options(
            config_path=None,
            interface="wh0",
            listen_port=None,
            mode="nat",
            hosts_path=None,
            ephemeral=True,
            namespace=self.namespace,
            sockets=False,
        )
        network = Network(workbit=0, peers=(Peer(PeerKind.TRUST, self.key), *peers))
        self.node = EmbeddedNode(network, self.secret, options)
        return self.node.start().listen_port

    def close(self) -> None:
        if self.node is not None:
            self.node.close()
        self.namespace.close()
        self.secret.close()


def refuse() -> int:
    raise PermissionError(errno.EACCES, "no TUN for this user")


@pytest.fixture(params=["TUN", "packet socket"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Member, Member]]:
    first, second = (Member(with_tun=request.param == "TUN") for _ in range(2))
    try:
        port = first.start(Peer(PeerKind.TRUST, second.key))
        second.start(Peer(PeerKind.TRUST, first.key, endpoint=Endpoint(str(host_addresses()[0]), port)))
        yield first, second
    finally:
        first.close()
        second.close()


def test_tcp_of_the_namespaces_goes_through_the_tunnel_whole(pair: tuple[Member, Member]):
    first, second = pair
    data = bytes(range(256)) * (TRANSFER // 256)
    with (
        ThreadPoolExecutor() as pool,
        first.namespace.socket(socket.AF_INET6, socket.SOCK_STREAM) as listener,
    ):
        listener.bind((first.address, PORT))
        listener.listen()
        listener.settimeout(PATIENCE_S)
        received = pool.submit(receive_all, listener)
        with second.namespace.socket(socket.AF_INET6, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect((first.address, PORT))
            connection.sendall(data)
        assert received.result(PATIENCE_S) == (second.address, hashlib.sha256(data).digest())
    assert second.node is not None
    (peer,) = (peer for peer in second.node.status().peers if peer.orchid == first.address)
    assert peer.state == "direct" and peer.sent_bytes > TRANSFER


def receive_all(listener: socket.socket) -> tuple[str, bytes]:
    connection, (address, *_) = listener.accept()
    digest = hashlib.sha256()
    with connection:
        while part := connection.recv(1 << 20):
            digest.update(part)
    return address, digest.digest()


def test_datagrams_of_every_size_arrive(pair: tuple[Member, Member]):
    """With checksums that the kernel left to us, and in fragments."""
    first, second = pair
    with (
        first.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one,
        second.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other,
    ):
        one.bind((first.address, PORT))
        one.settimeout(PATIENCE_S)
        for size in (0, 1, 1300, 5000):
            other.sendto(bytes(size), (first.address, PORT))
            assert one.recvfrom(9000)[0] == bytes(size)


def test_requests_are_answered_and_errors_raised(pair: tuple[Member, Member]):
    first, second = pair
    assert second.node is not None
    node, key = second.node, first.key
    body = node.ask(lambda request: PingRequested(request, key), PATIENCE_S)
    assert body["rtt_ms"] >= 0
    stranger = SecretKey.generate().public_key
    with pytest.raises(IpcError):
        node.ask(lambda request: PingRequested(request, stranger), PATIENCE_S)


def test_a_peer_that_closes_says_so(pair: tuple[Member, Member]):
    first, second = pair
    assert first.node is not None and second.node is not None
    node = second.node
    wait_until(lambda: states(node) == {"direct"}, PATIENCE_S, "there is a path")
    first.node.close()
    wait_until(lambda: "direct" not in states(node), PATIENCE_S, "the peer has left")


def states(node: EmbeddedNode) -> set[str]:
    return {peer.state for peer in node.status().peers if peer.public_key != node.status().public_key}


def test_a_node_that_cannot_start_leaves_nothing():
    member = Member(with_tun=True)
    first = member.namespace.open_tun("wh0")
    try:
        with pytest.raises(SystemSetupError, match="exists already"):
            member.start()
    finally:
        member.close()
    assert first


def test_a_node_that_is_not_running_says_so_instead_of_hanging():
    member = Member(with_tun=True)
    try:
        node = EmbeddedNode(Network(), member.secret, options_of(member.namespace))
        with pytest.raises(RuntimeError, match="not running"):
            node.status()
        node.close()
        with pytest.raises(RuntimeError):
            node.ready  # noqa: B018
    finally:
        member.close()


def test_the_document_s_program_works(capsys: pytest.CaptureFixture[str]):
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    exec(compile(program, str(DOCUMENT), "exec"), {})  # noqa: S102
    port, address = capsys.readouterr().out.split()
    assert (int(port) > 0, address) == (True, "10.0.42.2")
    assert wh.__version__ == version("wirehub")
