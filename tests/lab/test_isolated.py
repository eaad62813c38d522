"""An interface without root: `wh up ... isolated`, and how programs get there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from labnet import Host, Lab, wait_until
from znc_ends import NOBODY, as_nobody

INTERFACE = "wh0"
PORT = 7000
GREET = f"""
import socket, sys
s = socket.create_server(("::", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
print("up", flush=True)
while True:
    c, address = s.accept()
    with c:
        c.sendall(b"hello " + c.recv(100))
"""
THROUGH = """
import socket, struct, sys
kind, port, host, far = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
s = socket.create_connection(("127.0.0.1", port))
if kind == "socks":
    s.sendall(b"\\x05\\x01\\x00")
    assert s.recv(2) == b"\\x05\\x00"
    name = host.encode()
    s.sendall(b"\\x05\\x01\\x00\\x03" + bytes([len(name)]) + name + struct.pack("!H", far))
    answer = s.recv(10)
    if answer[1]:
        print("refused", answer[1]); sys.exit()
else:
    s.sendall(f"CONNECT {host}:{far} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    answer = b""
    while b"\\r\\n\\r\\n" not in answer:
        answer += s.recv(1)
    if b" 200 " not in answer.splitlines()[0]:
        print("refused", answer.splitlines()[0].decode()); sys.exit()
s.sendall(b"you"); s.shutdown(socket.SHUT_WR)
print(s.recv(100).decode())
"""


class Pair:
    """a: isolated, of a user without privileges. b: an ordinary member, root's."""

    def __init__(self, lab: Lab) -> None:
        lab.directory.chmod(0o711)  # what lets the user in without leave ends inside
        network = lab.network("lan")
        self.a, self.b = lab.host("a"), lab.host("b")
        self.a.attach(network, "192.0.2.1/24")
        self.b.attach(network, "192.0.2.2/24")
        keys = {}
        for host in (self.a, self.b):
            host.shell("umask 077; wh genkey > sk")
            keys[host.name] = host.shell("wh pubkey < sk").stdout.strip()
        for host in (self.a, self.b):
            (host.directory / "config").write_text(
                "name lan\nsubnet 10.0.42.0/24\n"
                f"trust node_a {keys['a']} 192.0.2.1:4000\ntrust node_b {keys['b']} 192.0.2.2:4000\n"
            )
        for path in (self.a.directory, *self.a.directory.iterdir()):
            as_nobody(self.a, path)
        self.a.run([*NOBODY, "wh", "up", "config", "private-key", "sk", "interface", INTERFACE, "isolated"])
        self.b.run(["wh", "up", "config", "private-key", "sk", "interface", INTERFACE])

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.a.run([*NOBODY, "wh", "run", INTERFACE, "--", *command], check=False)


@pytest.fixture
def pair(lab: Lab) -> Iterator[Pair]:
    yield Pair(lab)


def greeting(host: Host) -> None:
    server = host.popen([sys.executable, "-c", GREET], stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline() == "up\n"


def test_a_command_inside_sees_the_overlay_and_nothing_else(pair: Pair):
    for family, name in (("-4", "10.0.42.3"), ("-6", "2001:2")):
        answer = pair.inside("ping", family, "-c2", "-W5", "node_b")
        assert answer.returncode == 0, answer.stderr + pair.a.logs()
        assert name in answer.stdout
    assert "eth0" not in pair.inside("ip", "-o", "link").stdout
    assert INTERFACE not in pair.a.ip("-o", "link")
    assert pair.inside("ping", "-c1", "-W1", "192.0.2.2").returncode != 0
    assert pair.inside("sh", "-c", "exit 7").returncode == 7
    assert pair.inside("no-such-program").returncode == 2
    assert pair.inside("id", "-u").stdout == "65534\n"


def test_the_ordinary_member_reaches_the_isolated_one(pair: Pair):
    assert pair.b.run(["ping", "-c2", "-W5", "node_a"]).returncode == 0
    assert "node_a" not in pair.a.hosts_file.read_text()


def test_root_may_go_inside_too_but_no_other_user(pair: Pair):
    assert pair.a.run(["wh", "run", INTERFACE, "--", "ping", "-c1", "-W5", "node_b"]).returncode == 0
    other = [word.replace("65534", "65533") for word in NOBODY]
    refused = pair.a.run([*other, "wh", "run", INTERFACE, "--", "true"], check=False)
    assert refused.returncode == 4, refused.stderr


def test_down_leaves_nothing(pair: Pair):
    pair.a.run([*NOBODY, "wh", "down", INTERFACE])
    wait_until(lambda: not pair.a.pids(), 10, "daemon and helper have ended")


def test_on_an_ordinary_interface_a_command_runs_on_the_host(pair: Pair):
    assert "eth0" in pair.b.run(["wh", "run", INTERFACE, "--", "ip", "-o", "link"]).stdout


@pytest.fixture
def proxy(pair: Pair) -> Iterator[Pair]:
    greeting(pair.b)
    server = pair.a.popen(
        [*NOBODY, "wh", "socks", INTERFACE, "listen", "127.0.0.1:1080"], stdout=subprocess.PIPE
    )
    assert server.stdout is not None and "port 1080" in server.stdout.readline()
    yield pair
    server.terminate()  # it is in another namespace, where the lab does not look
    server.wait(10)


@pytest.mark.parametrize("kind", ["socks", "http"])
def test_programs_get_in_by_the_proxy(proxy: Pair, kind: str):
    def through(host: str, port: int = PORT) -> str:
        return proxy.a.run([sys.executable, "-c", THROUGH, kind, "1080", host, str(port)]).stdout.strip()

    assert through("node_b") == "hello you"
    assert through("10.0.42.3") == "hello you"
    for target in ("no-such-member", "127.0.0.1", "192.0.2.2"):
        assert through(target).startswith("refused"), target
    assert through("node_b", 7001).startswith("refused")


def test_what_is_no_request_ends_its_connection_only(proxy: Pair):
    script = (
        "import socket, sys\n"
        "for data in (b'\\x04\\x01', b'GET / HTTP/1.1\\r\\n\\r\\n', b'\\x05\\x00', b'\\x05\\x01\\x02',"
        " b'\\x05\\x01\\x00\\x05\\x02\\x00\\x01', b'x' * 500000):\n"
        "    s = socket.create_connection(('127.0.0.1', 1080)); s.settimeout(30)\n"
        "    try:\n        s.sendall(data); s.shutdown(socket.SHUT_WR)\n        while s.recv(1000): pass\n"
        "    except ConnectionError: pass\n"
    )
    proxy.a.run([sys.executable, "-c", script])
    test_programs_get_in_by_the_proxy(proxy, "socks")
