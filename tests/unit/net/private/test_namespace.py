"""A namespace of our own: the kernel's networking inside, nothing outside, and nothing left behind."""

import asyncio
import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_namespaces import refusal

from labnet import wait_until
from wh.errors import SystemSetupError
from wh.net.links.interface import Wanted
from wh.net.links.netlink import PrivateLinks
from wh.net.links.rtnetlink import InterfaceAddress, Route, RtnetlinkError
from wh.net.private import namespace as private_namespace
from wh.net.private.namespace import PrivateNamespace

V4 = InterfaceAddress(ipaddress.ip_address("10.9.0.1"), 24)
V6 = InterfaceAddress(ipaddress.ip_address("2001:20::1"), 128)
PEER = ipaddress.ip_network("2001:20::2/128")
ROUTE = Route(PEER, V6.ip, 1024)
PATIENCE_S = 10


pytestmark = pytest.mark.skipif(bool(refusal()), reason=refusal() or "")


@pytest.fixture
def namespace() -> Iterator[PrivateNamespace]:
    made = PrivateNamespace()
    yield made
    made.close()


def namespace_of(pid: int | str, kind: str = "net") -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def test_this_process_stays_where_it_is(namespace: PrivateNamespace):
    before = namespace_of("self")
    namespace.wait_until_ready()
    assert namespace_of("self") == before
    assert namespace_of(namespace.pid) != before


def test_sockets_made_inside_see_only_the_inside(namespace: PrivateNamespace):
    assert [link.name for link in namespace.netlink.links()] == ["lo"]
    with (
        namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as inside,
        namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
        socket.socket() as outside,
    ):
        inside.bind(("127.0.0.1", 0))
        inside.listen()
        client.connect(inside.getsockname())
        with pytest.raises(ConnectionRefusedError):
            outside.connect(inside.getsockname())


def test_an_interface_is_configured_and_changed_from_outside(namespace: PrivateNamespace):
    fds = namespace.open_tun("wh0")
    try:
        links = namespace.open_links("wh0")
        assert isinstance(links, PrivateLinks)
        asyncio.run(links.setup(Wanted(1408, frozenset({V4, V6}), frozenset({ROUTE}))))
        link = namespace.netlink.link("wh0")
        assert link is not None and link.up and link.mtu == 1408
        assert namespace.netlink.our_routes(link.ifindex) == [ROUTE]
        assert {V4, V6} <= addresses(namespace)
        asyncio.run(links.update(Wanted(1408, frozenset({V6}), frozenset())))
        assert namespace.netlink.our_routes(link.ifindex) == []
        assert V4 not in addresses(namespace)
    finally:
        for fd in fds:
            os.close(fd)


def addresses(namespace: PrivateNamespace) -> set[InterfaceAddress]:
    return {entry.address for entry in namespace.netlink.addresses()}


def test_what_is_sent_to_a_peer_comes_out_of_the_descriptor(namespace: PrivateNamespace):
    (fd,) = namespace.open_tun("wh0")
    try:
        links = namespace.open_links("wh0")
        asyncio.run(links.setup(Wanted(1408, frozenset({V6}), frozenset({ROUTE}))))
        with namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
            udp.sendto(b"through the tunnel", (str(PEER.network_address), 9))
        wait_until(lambda: b"through the tunnel" in frame(fd), PATIENCE_S, "the datagram is read")
    finally:
        os.close(fd)


def frame(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return b""


def test_where_there_is_no_tun_a_packet_socket_takes_its_place(
    namespace: PrivateNamespace, monkeypatch: pytest.MonkeyPatch
):
    def refuse() -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(namespace, "_open_tun_device", refuse)
    test_what_is_sent_to_a_peer_comes_out_of_the_descriptor(namespace)


def test_errors_inside_are_told(namespace: PrivateNamespace):
    with pytest.raises(OSError, match="Address family not supported"):
        namespace.socket(250, socket.SOCK_STREAM)
    with pytest.raises(RtnetlinkError) as caught:
        namespace.netlink.delete_link(77)
    assert caught.value.error_number == errno.ENODEV
    with pytest.raises(SystemSetupError, match="not a valid interface name"):
        namespace.open_tun("no/name")


def test_nothing_is_left_when_the_process_is_killed():
    script = (
        "import sys; from wh.net.private.namespace import PrivateNamespace; n = PrivateNamespace(); "
        "n.wait_until_ready(); print(n.pid, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None and process.stdin is not None
    helper = int(process.stdout.readline())
    assert Path(f"/proc/{helper}").exists()
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)
    wait_until(lambda: not Path(f"/proc/{helper}").exists(), PATIENCE_S, "the helper has ended")
    process.stdin.close()
    process.stdout.close()


def test_the_helper_holds_nothing_of_ours_open():
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    made = PrivateNamespace()
    try:
        made.wait_until_ready()
        os.close(writer)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
        made.close()


@pytest.mark.parametrize(
    ("sysctls", "says"),
    [
        ({"kernel/apparmor_restrict_unprivileged_userns": "1"}, "apparmor_restrict_unprivileged_userns=0"),
        ({"kernel/unprivileged_userns_clone": "0"}, "unprivileged_userns_clone=1"),
        ({"user/max_user_namespaces": "0"}, "user.max_user_namespaces="),
        ({"user/max_net_namespaces": "0"}, "user.max_net_namespaces="),
        ({}, "seccomp=unconfined"),
    ],
)
def test_a_refusal_says_what_to_allow(monkeypatch: pytest.MonkeyPatch, sysctls: dict[str, str], says: str):
    monkeypatch.setattr(private_namespace, "_sysctl", lambda name: sysctls.get(name, ""))
    error = private_namespace._explain(errno.EPERM, "namespaces")
    assert error.code == "WH230"
    assert says in error.hint


def test_the_limit_of_namespaces_is_told(tmp_path: Path):
    """In a user namespace of its own, where the limit can be set without touching the host's."""
    script = (
        "from wh.net.private.namespace import PrivateNamespace\n"
        "from wh.errors import SystemSetupError\n"
        "n = PrivateNamespace()\ntry:\n n.wait_until_ready()\n"
        "except SystemSetupError as e:\n print(e.code, e.hint)"
    )
    answer = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "sh", "-c"),
            'echo 0 >/proc/sys/user/max_net_namespaces && exec "$0" -P -c "$1"',
            *(sys.executable, script),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert "WH230 sysctl -w user.max_net_namespaces=" in answer.stdout, answer.stderr
