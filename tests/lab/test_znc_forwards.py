"""-L and -R of 0nc: TCP, UDP and Unix sockets of one host that come out on the other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from labnet import Host, Lab, wait_until
from znc_ends import End, as_nobody

ECHO = """
import socket, sys, threading
kind, where = sys.argv[1], sys.argv[2:]
if kind == "udp":
    s = socket.socket(type=socket.SOCK_DGRAM); s.bind((where[0], int(where[1]))); print("up", flush=True)
    while True:
        data, address = s.recvfrom(65536); s.sendto(b"echo " + data, address)
if kind == "unix":
    s = socket.socket(socket.AF_UNIX); s.bind(where[0]); s.listen()
else:
    s = socket.create_server((where[0], int(where[1])))
print("up", flush=True)
def serve(c):
    with c:
        while data := c.recv(65536):
            c.sendall(data)
        c.sendall(b"end")
while True:
    threading.Thread(target=serve, args=s.accept()[:1], daemon=True).start()
"""

ASK = """
import socket, sys
kind, where, data = sys.argv[1], sys.argv[2:-1], sys.argv[-1].encode()
if kind == "udp":
    s = socket.socket(type=socket.SOCK_DGRAM); s.connect((where[0], int(where[1])))
    s.settimeout(1.0)
    for _ in range(10):
        s.send(data)
        try:
            print(s.recv(65536).decode(), end=""); break
        except TimeoutError:
            pass
else:
    if kind == "unix":
        s = socket.socket(socket.AF_UNIX); s.connect(where[0])
    else:
        s = socket.create_connection((where[0], int(where[1])))
    got = b""
    try:
        s.sendall(data); s.shutdown(socket.SHUT_WR)
        while part := s.recv(65536):
            got += part
    except OSError:
        pass
    print(got.decode(), end="")
"""


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    network = lab.network("lan")
    a, b = lab.host("a"), lab.host("b")
    a.attach(network, "192.0.2.1/24")
    b.attach(network, "192.0.2.2/24")
    for host in (a, b):
        as_nobody(host, host.directory)
    return a, b


def serve(host: Host, *words: str) -> None:
    server = host.popen([sys.executable, "-c", ECHO, *words], stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline() == "up\n"


def ask(host: Host, *words: str) -> str:
    return host.run([sys.executable, "-c", ASK, *words]).stdout


def meet(hosts: tuple[Host, Host], of_host: list[str], of_guest: list[str]) -> tuple[End, End]:
    host = End(hosts[0], of_host, stdin=subprocess.PIPE)
    guest = End(hosts[1], [*of_guest, host.invitation()], stdin=subprocess.PIPE)
    guest.event("connected")
    return host, guest


def listening(host: Host, port: int, kind: str = "-tln") -> None:
    wait_until(lambda: f":{port}" in host.run(["ss", kind]).stdout, 10, f"{host.name} listens on {port}")


def test_tcp_is_forwarded_to_the_other_end_with_half_closes(hosts: tuple[Host, Host]):
    a, b = hosts
    serve(a, "tcp", "127.0.0.1", "7000")
    meet(hosts, ["--allow-forward"], ["-L", "8000:127.0.0.1:7000"])
    listening(b, 8000)
    for text in ("one", "two" * 30_000):
        assert ask(b, "tcp", "127.0.0.1", "8000", text) == text + "end"


def test_the_other_end_listens_for_us(hosts: tuple[Host, Host]):
    a, b = hosts
    serve(b, "tcp", "127.0.0.1", "7000")
    meet(hosts, ["--allow-forward"], ["-R", "192.0.2.1:8000:127.0.0.1:7000"])
    listening(a, 8000)
    assert ask(b, "tcp", "192.0.2.1", "8000", "round") == "roundend"


def test_the_host_forwards_too(hosts: tuple[Host, Host]):
    a, b = hosts
    serve(b, "tcp", "127.0.0.1", "7000")
    meet(hosts, ["-L", "8000:127.0.0.1:7000"], ["--allow-forward"])
    listening(a, 8000)
    assert ask(a, "tcp", "127.0.0.1", "8000", "there") == "thereend"


def test_datagrams_keep_their_boundaries(hosts: tuple[Host, Host]):
    a, b = hosts
    serve(a, "udp", "127.0.0.1", "7000")
    meet(hosts, ["--allow-forward"], ["-L", "udp:8000:127.0.0.1:7000"])
    listening(b, 8000, "-uln")
    assert ask(b, "udp", "127.0.0.1", "8000", "x" * 3000) == "echo " + "x" * 3000
    assert ask(b, "udp", "127.0.0.1", "8000", "another client") == "echo another client"


def test_unix_sockets(hosts: tuple[Host, Host]):
    a, b = hosts
    there, here = a.directory / "there.sock", b.directory / "here.sock"
    serve(a, "unix", str(there))
    there.chmod(0o666)
    meet(hosts, ["--allow-forward"], ["-L", f"{here}:{there}"])
    wait_until(here.exists, 10, "the socket is there")
    assert ask(b, "unix", str(here), "hello") == "helloend"


def test_without_leave_nothing_is_forwarded(hosts: tuple[Host, Host]):
    """Neither connections to what the host alone reaches, nor listening there."""
    a, b = hosts
    serve(a, "tcp", "127.0.0.1", "7000")
    host, guest = meet(hosts, ["-L", "9000:127.0.0.1:1"], ["-L", "8000:127.0.0.1:7000"])
    listening(b, 8000)
    assert ask(b, "tcp", "127.0.0.1", "8000", "hello") == ""
    refused = guest.event("refused")
    assert refused is not None
    guest.process.kill()
    host, guest = meet(hosts, ["-L", "9001:127.0.0.1:1"], ["-R", "8001:127.0.0.1:7000"])
    assert guest.wait() == 1
    assert "--allow-forward" in guest.event("error")["message"]
    assert ":8001" not in a.run(["ss", "-tln"]).stdout


def test_a_target_that_refuses_is_told(hosts: tuple[Host, Host]):
    _, b = hosts
    _, guest = meet(hosts, ["--allow-forward"], ["-L", "8000:127.0.0.1:7000"])
    listening(b, 8000)
    assert ask(b, "tcp", "127.0.0.1", "8000", "hello") == ""
    guest.event("refused")


def test_a_stream_does_not_meet_forwards(hosts: tuple[Host, Host]):
    host = End(hosts[0], [], stdin=subprocess.PIPE)
    guest = End(hosts[1], ["-L", "8000:127.0.0.1:7000", host.invitation()], stdin=subprocess.PIPE)
    assert guest.wait() == 1
    assert "--allow-forward" in guest.event("error")["message"]
    host = End(hosts[0], ["--allow-forward"], stdin=subprocess.PIPE)
    guest = End(hosts[1], [host.invitation()], stdin=subprocess.PIPE)
    assert guest.wait() == 1
    assert host.wait() == 1


def test_a_port_that_is_taken_is_told(hosts: tuple[Host, Host]):
    serve(hosts[1], "tcp", "127.0.0.1", "8000")
    _, guest = meet(hosts, ["--allow-forward"], ["-L", "8000:127.0.0.1:7000"])
    assert guest.wait() == 1
    assert "Address already in use" in guest.event("error")["message"]


def test_forwards_end_with_the_other_end(hosts: tuple[Host, Host]):
    host, guest = meet(hosts, ["--allow-forward"], ["-L", "8000:127.0.0.1:7000"])
    listening(hosts[1], 8000)
    host.process.terminate()
    assert host.wait() == 130
    assert guest.wait() in (0, 7)
