"""The proxy into an overlay: what it lets through, what it refuses, and what ends a connection only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address

import msgspec
import pytest
from fake_daemon import PEER, PEER_KEY, STATUS
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.errors import Code, IpcError
from wh.inside.socks import LOOK_S, Overlay, Proxy, overlay_of
from wh.ipc.schema import PeerInfo
from whcore.keys import decode_key, encode_key_wg

PATIENCE_S = 10
MEMBER, GONE = "127.0.0.9", "127.0.0.10"
"""Members of an overlay whose interface is the loopback device."""


def overlay(*members: str) -> Overlay:
    names = {"member": MEMBER, "silent": GONE, "liar": "127.0.0.1"}
    return Overlay(
        frozenset(map(ip_address, members)), {name: (ip_address(ip),) for name, ip in names.items()}
    )


class World:
    """A proxy to members on the loopback device, where this host has services too: on the same port."""

    def __init__(self) -> None:
        self.echo = socket.create_server((MEMBER, 0))
        self.port = self.echo.getsockname()[1]
        self.service = socket.create_server(("127.0.0.1", self.port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.loop = asyncio.new_event_loop()
        self.members = [MEMBER, GONE]
        self.trouble: IpcError | None = None
        self.proxy = Proxy(self.look, socket.if_nametoindex("lo"), connections_max=40)
        self.ended_by: BaseException | None = None
        threading.Thread(target=self._echo, daemon=True).start()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def look(self) -> Overlay:
        if self.trouble is not None:
            raise self.trouble
        return overlay(*self.members)

    def _echo(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.echo.accept()
                threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.task = self.loop.create_task(self.proxy.serve(self.listener))
        try:
            self.loop.run_until_complete(self.task)
        except (asyncio.CancelledError, IpcError) as end:
            self.ended_by = end

    def close(self) -> None:
        """Nothing ever reached the service of this host."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.task.cancel)
        self.thread.join(PATIENCE_S)
        self.echo.close()
        self.service.setblocking(False)
        with self.service, pytest.raises(BlockingIOError):
            self.service.accept()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.address)
        connection.settimeout(PATIENCE_S)
        return connection


def echo(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(4096):
            connection.sendall(data)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def read_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := connection.recv(count - len(data))):
        data += part
    return data


def socks_request(kind: int, place: bytes, port: int, command: int = 1) -> bytes:
    return b"\x05\x01\x00" + bytes((5, command, 0, kind)) + place + struct.pack("!H", port)


def name(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


MAPPED = bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 9])


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (3, name("member")),
        (3, name("MEMBER")),
        (3, name(MEMBER)),
        (1, bytes([127, 0, 0, 9])),
        (4, MAPPED),
        (3, name("::ffff:127.0.0.9")),
    ],
)
def test_socks_connects_and_carries_both_ways(world: World, kind: int, place: bytes):
    with world.connect() as connection:
        connection.sendall(socks_request(kind, place, world.port) + b"early data")
        assert read_exactly(connection, 2) == b"\x05\x00"
        assert read_exactly(connection, 10)[:2] == b"\x05\x00"
        connection.shutdown(socket.SHUT_WR)
        assert read_exactly(connection, 100) == b"early data"


@pytest.mark.parametrize("host", ["member", MEMBER, "[::ffff:7f00:9]"])
def test_http_connects_and_carries_both_ways(world: World, host: str):
    with world.connect() as connection:
        head = f"CONNECT {host}:{world.port} HTTP/1.1\r\nHost: member\r\nX: y\r\n\r\n"
        connection.sendall(head.encode() + b"early data")
        answer = read_exactly(connection, len("HTTP/1.1 200 Connection established\r\n\r\n"))
        assert answer.startswith(b"HTTP/1.1 200 ")
        connection.shutdown(socket.SHUT_WR)
        assert read_exactly(connection, 100) == b"early data"


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (socks_request(3, name("nobody"), 80), 4),
        (socks_request(3, name("silent"), 1), 5),
        (socks_request(3, name("member"), 80, command=2), 7),
        (socks_request(9, b"", 80), 8),
        (socks_request(3, name("member"), 0), 8),
        (socks_request(3, name(""), 80), 8),
    ],
)
def test_socks_refuses_with_the_reason(world: World, request_: bytes, reply: int):
    with world.connect() as connection:
        connection.sendall(request_)
        assert read_exactly(connection, 2) == b"\x05\x00"
        assert read_exactly(connection, 10)[1] == reply
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


ADDRESSES_OF_THIS_HOST = [
    *("127.0.0.1", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "::ffff:0:0", "::127.0.0.1", "::7f00:1"),  # noqa: S104
    *("::127.0.0.9", "2002:7f00:1::", "2002:7f00:9::", "64:ff9b::7f00:1", "64:ff9b::127.0.0.9"),
    *("fe80::1", "fe80::1%lo", "::1%lo", "::ffff:127.0.0.9%lo", "255.255.255.255", "127.255.255.255"),
    *("224.0.0.1", "ff02::1", "169.254.169.254"),
]


@pytest.mark.parametrize("host", ADDRESSES_OF_THIS_HOST)
def test_no_spelling_of_another_address_leads_out_of_the_overlay(world: World, host: str):
    """Nor the host's own service, which listens on the same port (see World.close)."""
    with world.connect() as connection:
        connection.sendall(socks_request(3, name(host), world.port))
        assert read_exactly(connection, 12)[3] == 2
    address, _, zone = host.partition("%")
    packed = ip_address(address).packed
    if not zone:
        with world.connect() as connection:
            connection.sendall(socks_request(1 if len(packed) == 4 else 4, packed, world.port))
            assert read_exactly(connection, 12)[3] == 2
    with world.connect() as connection:
        place = f"[{host}]" if ":" in host else host
        connection.sendall(f"CONNECT {place}:{world.port} HTTP/1.1\r\n\r\n".encode())
        assert read_exactly(connection, 12) == b"HTTP/1.1 403"


NUMBERS = ["127.1", "127.0.1", "0x7f000001", "2130706433", "017700000001", "0x7f.1", "127.0.0.01", "0", "1"]


@pytest.mark.parametrize("host", [*NUMBERS, "localhost", "LOCALHOST.", "ip6-localhost", "member.", "a\0b"])
def test_names_are_the_members_alone(world: World, host: str):
    with world.connect() as connection:
        connection.sendall(socks_request(3, name(host), world.port))
        assert read_exactly(connection, 12)[3] in (4, 8)


def test_a_name_with_an_address_outside_leads_nowhere(world: World):
    with world.connect() as connection:
        connection.sendall(socks_request(3, name("liar"), world.port))
        assert read_exactly(connection, 12)[3] == 2


def test_a_connection_ends_with_the_membership(world: World):
    with world.connect() as connection:
        connection.sendall(socks_request(3, name("member"), world.port) + b"here")
        assert read_exactly(connection, 16)[-4:] == b"here"
        world.members.remove(MEMBER)
        assert read_exactly(connection, 1) == b""
    with world.connect() as connection:
        connection.sendall(socks_request(3, name("member"), world.port))
        assert read_exactly(connection, 12)[3] == 2
    world.members.append(MEMBER)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with world.connect() as connection:
            connection.sendall(socks_request(3, name("member"), world.port))
            if read_exactly(connection, 12)[3] == 0:
                return
    raise TimeoutError("the member is not back")


def test_the_proxy_ends_with_its_daemon(world: World):
    with world.connect() as connection:
        connection.sendall(socks_request(3, name("member"), world.port) + b"here")
        assert read_exactly(connection, 16)[-4:] == b"here"
        world.trouble = IpcError("busy", code=Code.IPC_BUSY)
        world.thread.join(1.5 * LOOK_S)
        assert world.thread.is_alive()
        world.trouble = IpcError("gone", code=Code.NO_DAEMON)
        world.thread.join(PATIENCE_S)
        assert isinstance(world.ended_by, IpcError)
    with pytest.raises(ConnectionRefusedError):
        world.connect()


def test_no_connection_outlives_the_proxy(world: World):
    with world.connect() as carried, world.connect() as silent:
        carried.sendall(socks_request(3, name("member"), world.port) + b"here")
        assert read_exactly(carried, 16)[-4:] == b"here"
        silent.sendall(b"\x05")
        world.trouble = IpcError("gone", code=Code.NO_DAEMON)
        world.thread.join(PATIENCE_S)
        assert asyncio.all_tasks(world.loop) == set()


def test_connections_are_bounded(world: World):
    with contextlib.ExitStack() as held:
        idle = [held.enter_context(world.connect()) for _ in range(60)]
        refused = 0
        for connection in idle:
            connection.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                refused += connection.recv(1) == b""
        assert refused == 20


def test_an_overlay_is_what_the_other_members_have():
    member, orchid = msgspec.structs.replace(PEER, hostname="Node_B"), ip_address("2001:20::2")
    alias = PeerInfo("alias", "guest", "alias", "10.0.42.4", "2001:20::4", "idle", alias=True)
    stranger = PeerInfo("stranger", None, "stranger", None, "2001:20::5", "idle")
    boot = PeerInfo("boot", "boot", "boot", None, "2001:20::6", "idle")
    own = msgspec.structs.replace(PEER, public_key=STATUS.public_key, address="10.0.42.2")
    thief = PeerInfo("thief", "thief", "trust", STATUS.address, STATUS.orchid, "idle")
    status = msgspec.structs.replace(STATUS, peers=[member, alias, stranger, boot, own, thief])
    known = overlay_of(status)
    assert known.addresses == {ip_address("10.0.42.3"), orchid}
    for word in ("node_b", "NODE_B", PEER_KEY, encode_key_wg(decode_key(PEER_KEY)), "10.0.42.3"):
        assert ip_address("10.0.42.3") in known.find(word)


def test_who_wants_to_authenticate_is_refused(world: World):
    with world.connect() as connection:
        connection.sendall(b"\x05\x01\x02")
        assert read_exactly(connection, 3) == b"\x05\xff"


def test_whatever_comes_ends_its_own_connection_only(world: World):
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(lambda rest: b"\x05\x01\x00" + rest)))
    def check(data: bytes) -> None:
        with world.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                continue

    check()
    test_http_connects_and_carries_both_ways(world, "member")


def test_serving_imports_nothing():
    """Once in a namespace, the program's own files may be out of reach."""
    script = """
import contextlib, os, signal, socket, sys, threading
from ipaddress import ip_address
from wh.inside import socks
echo, listener = socket.create_server(("127.0.0.9", 0)), socket.create_server(("127.0.0.1", 0))
port = echo.getsockname()[1]

def answer():
    for _ in range(2):
        connection, _ = echo.accept()
        with connection:
            connection.sendall(connection.recv(100))

def use():
    for request, answer_len in (
        (b"\\5\\1\\0" + b"\\5\\1\\0\\3\\6member" + port.to_bytes(2, "big") + b"socks", 2 + 10 + 5),
        (f"CONNECT member:{port} HTTP/1.1\\r\\n\\r\\nhttp".encode(), 43),
    ):
        with socket.socket() as connection:
            connection.connect(listener.getsockname())
            connection.sendall(request)
            answer = b""
            while len(answer) < answer_len:
                answer += connection.recv(100) or sys.exit("closed")
            print(answer[-5:])
    os.kill(os.getpid(), signal.SIGINT)

threads = [threading.Thread(target=each, daemon=True) for each in (answer, use)]
before = set(sys.modules)
for thread in threads:
    thread.start()
with contextlib.suppress(KeyboardInterrupt):
    member = ip_address("127.0.0.9")
    overlay = socks.Overlay(frozenset({member}), {"member": (member,)})
    socks.run(listener, lambda: overlay, socket.if_nametoindex("lo"))
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 3,
        check=False,
    )
    assert done.stdout.splitlines() == ["b'socks'", "b'\\nhttp'", "[]"], done.stderr
