"""The proxy into an overlay: what it lets through, what it refuses, and what ends a connection only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.socks import Proxy

PATIENCE_S = 10
NAMES = {"member": ["192.0.2.1"], "nobody": []}


class World:
    """A proxy whose overlay is one echo server, whatever the address."""

    def __init__(self) -> None:
        self.echo = socket.create_server(("127.0.0.1", 0))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.loop = asyncio.new_event_loop()
        self.proxy = Proxy(lambda name: NAMES.get(name, []))
        self.asked: list[tuple[str, int]] = []
        threading.Thread(target=self._echo, daemon=True).start()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _echo(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.echo.accept()
                with connection, contextlib.suppress(OSError):
                    while data := connection.recv(4096):
                        connection.sendall(data)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.task = self.loop.create_task(self.proxy.serve(self.listener))
        with contextlib.suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.task)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.task.cancel)
        self.thread.join(PATIENCE_S)
        self.echo.close()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.listener.getsockname())
        connection.settimeout(PATIENCE_S)
        return connection


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()
    real = asyncio.open_connection

    async def open_connection(host: str, port: int, **options: int):  # type: ignore[no-untyped-def]
        made.asked.append((host, port))
        if port == 1:
            raise ConnectionRefusedError
        return await real(*made.echo.getsockname(), **options)

    monkeypatch.setattr(asyncio, "open_connection", open_connection)
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


@pytest.mark.parametrize(
    ("kind", "place", "asked"),
    [
        (3, name("member"), "192.0.2.1"),
        (1, bytes([192, 0, 2, 9]), "192.0.2.9"),
        (4, bytes.fromhex("20010db8000000000000000000000005"), "2001:db8::5"),
    ],
)
def test_socks_connects_and_carries_both_ways(world: World, kind: int, place: bytes, asked: str):
    with world.connect() as connection:
        connection.sendall(socks_request(kind, place, 80) + b"early data")
        assert read_exactly(connection, 2) == b"\x05\x00"
        assert read_exactly(connection, 10)[:2] == b"\x05\x00"
        connection.shutdown(socket.SHUT_WR)
        assert read_exactly(connection, 100) == b"early data"
    assert world.asked == [(asked, 80)]


def test_http_connects_and_carries_both_ways(world: World):
    with world.connect() as connection:
        connection.sendall(b"CONNECT member:80 HTTP/1.1\r\nHost: member\r\nX: y\r\n\r\nearly data")
        answer = read_exactly(connection, len("HTTP/1.1 200 Connection established\r\n\r\n"))
        assert answer.startswith(b"HTTP/1.1 200 ")
        connection.shutdown(socket.SHUT_WR)
        assert read_exactly(connection, 100) == b"early data"


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (socks_request(3, name("nobody"), 80), 4),
        (socks_request(3, name("member"), 1), 5),
        (socks_request(3, name("member"), 80, command=2), 7),
        (socks_request(9, b"", 80), 8),
        (socks_request(3, name("member"), 0), 8),
        (socks_request(3, name(""), 80), 8),
        (socks_request(1, bytes([127, 0, 0, 1]), 80), 2),
    ],
)
def test_socks_refuses_with_the_reason(world: World, request_: bytes, reply: int):
    with world.connect() as connection:
        connection.sendall(request_)
        assert read_exactly(connection, 2) == b"\x05\x00"
        assert read_exactly(connection, 10)[1] == reply
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"CONNECT nobody:80 HTTP/1.1", b"502"),
        (b"CONNECT member:1 HTTP/1.1", b"502"),
        (b"CONNECT [::1]:80 HTTP/1.1", b"403"),
        (b"CONNECT member HTTP/1.1", b"400"),
        (b"CONNECT member:70000 HTTP/1.1", b"400"),
        (b"GET / HTTP/1.1", b"405"),
        (b"nonsense", b"400"),
    ],
)
def test_http_refuses_with_the_reason(world: World, line: bytes, status: bytes):
    with world.connect() as connection:
        connection.sendall(line + b"\r\n\r\n")
        assert read_exactly(connection, 12) == b"HTTP/1.1 " + status


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
    test_http_connects_and_carries_both_ways(world)


def test_serving_imports_nothing():
    """Once in a namespace, the program's own files may be out of reach."""
    script = """
import contextlib, os, signal, socket, sys, threading
from wh import socks
echo, listener = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
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
    socks.run(listener, {"member": ["127.0.0.1"]}.__getitem__)
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S * 3, check=False
    )
    assert done.stdout.splitlines() == ["b'socks'", "b'\\nhttp'", "[]"], done.stderr
