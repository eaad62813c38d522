"""`wh socks` on an interface of the host and on an isolated one: a way to the other members, and to nothing
else that its host can reach."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
        c.sendall(sys.argv[1].encode() + b" " + c.recv(100))
"""
ASK = """
import json, socket, struct, sys
port, far, answers = int(sys.argv[1]), int(sys.argv[2]), {}
def ask(host, way):
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.settimeout(3)
        if way == "http":
            place = f"[{host}]" if ":" in host else host
            s.sendall(f"CONNECT {place}:{far} HTTP/1.1\\r\\n\\r\\n".encode())
            head = b""
            while b"\\r\\n\\r\\n" not in head and (part := s.recv(1)):
                head += part
            if b" 200 " not in head.partition(b"\\r\\n")[0]:
                return "refused"
        else:
            if way == "name":
                place = b"\\3" + bytes([len(host)]) + host.encode()
            elif ":" in host:
                place = b"\\4" + socket.inet_pton(socket.AF_INET6, host)
            else:
                place = b"\\1" + socket.inet_aton(host)
            s.sendall(b"\\5\\1\\0" + b"\\5\\1\\0" + place + struct.pack("!H", far))
            head = b""
            while len(head) < 12 and (part := s.recv(12 - len(head))):
                head += part
            if len(head) < 12 or head[3]:
                return "refused"
        s.sendall(b"you"); s.shutdown(socket.SHUT_WR)
        return s.recv(100).decode() or "closed"
for host in json.loads(sys.stdin.read()):
    answers[host] = {}
    for way in ("name", "http", "address"):
        if way == "address":
            try:
                socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
            except OSError:
                continue
        try:
            answers[host][way] = ask(host, way)
        except OSError as error:
            answers[host][way] = f"lost: {error}"
print(json.dumps(answers))
"""

LAN_OF_B = "192.168.9.1"
OWN = "10.0.42.3"
THIS_HOST = [
    *("127.0.0.1", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::127.0.0.1"),  # noqa: S104
    *("127.1", "0x7f000001", "2130706433", "017700000001", "0", "localhost", "LOCALHOST", "localhost."),
    *("alias-of-localhost", "alias-of-lan", "ip6-localhost", "127.255.255.255", "255.255.255.255"),
    *("192.0.2.2", "::ffff:192.0.2.2", LAN_OF_B, f"::ffff:{LAN_OF_B}", "192.168.9.255", "192.0.2.255"),
    *("fe80::1%eth0", "fe80::1%lo", "::1%lo", "ff02::1", "224.0.0.1", "2002:c000:202::", "64:ff9b::c000:202"),
    *("192.0.2.1", "192.168.9.2", OWN, f"::ffff:{OWN}", "10.0.42.0", "10.0.42.255", "10.0.42.99", "node_b"),
]


class Trio:
    """a: isolated, of a user without privileges. b: an interface on the host, and a second LAN. c: a member
    that both lead to. A service listens everywhere."""

    def __init__(self, lab: Lab) -> None:
        lab.directory.chmod(0o711)  # what lets the user in without leave ends inside
        network, second = lab.network("lan"), lab.network("second")
        self.hosts = {name: lab.host(name) for name in ("a", "b", "c")}
        self.a, self.b, self.c = self.hosts.values()
        for number, host in enumerate(self.hosts.values(), 1):
            host.attach(network, f"192.0.2.{number}/24")
        self.b.attach(second, f"{LAN_OF_B}/24", device="eth1")
        neighbour = lab.host("neighbour")
        neighbour.attach(second, "192.168.9.2/24")
        with self.b.hosts_file.open("a") as file:
            file.write(f"127.0.0.1 alias-of-localhost\n{LAN_OF_B} alias-of-lan\n")
        self.keys = {}
        for name, host in self.hosts.items():
            host.shell("umask 077; wh genkey > sk")
            self.keys[name] = host.shell("wh pubkey < sk").stdout.strip()
        self.write()
        for path in (self.a.directory, *self.a.directory.iterdir()):
            as_nobody(self.a, path)
        for host in (*self.hosts.values(), neighbour):
            greet(host)
        self.up(self.a, *NOBODY)
        self.up(self.b)
        self.up(self.c)

    def write(self, *names: str) -> None:
        lines = [
            f"trust node_{name} 10.0.42.{number} {self.keys[name]} 192.0.2.{number - 1}:4000\n"
            for number, name in enumerate(self.hosts, 2)
            if not names or name in names
        ]
        for host in self.hosts.values():
            (host.directory / "config").write_text("name lan\nsubnet 10.0.42.0/24\n" + "".join(lines))

    def up(self, host: Host, *user: str) -> None:
        words = ["wh", "up", "config", "private-key", "sk", "interface", INTERFACE, "lan"]
        host.run([*user, *words, *(["isolated"] if user else [])])

    def orchid(self, name: str) -> str:
        return self.c.run(["wh", "orchid"], input=self.keys[name]).stdout.strip()


def greet(host: Host) -> None:
    """Says who answers. On b and a that must not be they themselves."""
    server = host.popen([sys.executable, "-c", GREET, host.name], stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline() == "up\n"


@pytest.fixture(scope="module")
def trio() -> Iterator[Trio]:
    with Lab("socks", log=print) as lab:
        yield Trio(lab)


class RunningProxy:
    def __init__(self, host: Host, user: tuple[str, ...] = (), *words: str) -> None:
        self.host = host
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        argv = [*user, "wh", "socks", INTERFACE, "listen", f"127.0.0.1:{self.port}", *words]
        self.process = host.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None and "port" in self.process.stdout.readline()

    def ask(self, *hosts: str, port: int = PORT) -> dict[str, dict[str, str]]:
        argv = [sys.executable, "-c", ASK, str(self.port), str(port)]
        answers: dict[str, dict[str, str]] = json.loads(self.host.run(argv, input=json.dumps(hosts)).stdout)
        return answers

    def __enter__(self) -> RunningProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()  # it may be in another namespace, where the lab does not look
        self.process.wait(10)


def proxy_of(trio: Trio, kind: str) -> RunningProxy:
    return RunningProxy(trio.b) if kind == "host" else RunningProxy(trio.a, NOBODY)


@pytest.mark.parametrize("kind", ["host", "isolated"])
def test_the_proxy_leads_to_the_other_members_and_nowhere_else(trio: Trio, kind: str) -> None:
    orchid, own = trio.orchid("c"), "node_b" if kind == "host" else "node_a"
    members = ["node_c", "NODE_C", "10.0.42.4", "::ffff:10.0.42.4", orchid, trio.keys["c"]]
    outside = [*THIS_HOST, "node_d", trio.orchid("b" if kind == "host" else "a"), own]
    if kind == "isolated":
        outside = [host for host in outside if host not in (OWN, f"::ffff:{OWN}", "node_b")]
    with proxy_of(trio, kind) as proxy:
        for host, answers in proxy.ask(*members).items():
            assert set(answers.values()) == {"c you"}, (host, answers)
        led_out = {
            host: answers
            for host, answers in proxy.ask(*outside).items()
            if set(answers.values()) != {"refused"}
        }
    assert led_out == {}


def test_a_route_that_leads_past_the_interface_is_not_taken(trio: Trio) -> None:
    """A member's address, which another interface now has a route to: the overlay, or nothing."""
    with RunningProxy(trio.b) as proxy:
        assert proxy.ask("node_c")["node_c"]["name"] == "c you"
        rival = ("10.0.42.4/32", "via", "192.168.9.2")
        trio.b.ip("route", "prepend", *rival)  # before the interface's own
        neighbour = next(host for host in trio.b.lab.hosts if host.name == "neighbour")
        neighbour.ip("address", "add", "10.0.42.4/32", "dev", "lo")
        try:
            assert proxy.ask("10.0.42.4")["10.0.42.4"]["name"] == "c you"
        finally:
            trio.b.ip("route", "del", *rival)


def test_who_leaves_the_network_file_is_reached_no_more(trio: Trio) -> None:
    with RunningProxy(trio.b) as proxy:
        try:
            trio.write("b")
            trio.b.run(["wh", "reload", INTERFACE])
            wait_until(lambda: proxy.ask("node_c")["node_c"]["name"] == "refused", 12, "it is not reached")
            trio.write()
            trio.b.run(["wh", "reload", INTERFACE])
            wait_until(lambda: proxy.ask("node_c")["node_c"]["name"] == "c you", 10, "it is reached again")
        finally:
            trio.write()


@pytest.mark.parametrize("place", ["0.0.0.0:0", "[::]:0", "192.0.2.2:0", ":0", "10.0.42.3:0", "node_b:0"])  # noqa: S104
def test_a_place_that_others_reach_needs_the_word(trio: Trio, place: str) -> None:
    words = ["timeout", "5", "wh", "socks", INTERFACE, "listen", place]
    refused = trio.b.run(words, check=False)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    if place.startswith(":"):
        return
    with trio.b.popen([*words, "open"], stdout=subprocess.PIPE) as opened:
        assert opened.stdout is not None and "proxy on" in opened.stdout.readline()
        opened.terminate()


def has_keepalive(host: Host, port: int) -> int:
    """Of the connections from or to a port, how many have a keepalive timer."""
    listing = host.run(
        ["ss", "-tnoH", "state", "established", f"( sport = :{port} or dport = :{port} )"]
    ).stdout
    return listing.count("timer:(keepalive")


def test_both_connections_notice_who_has_vanished(trio: Trio) -> None:
    with RunningProxy(trio.b) as proxy:
        script = (
            "import socket, sys, struct\n"
            f"s = socket.create_connection(('127.0.0.1', {proxy.port}))\n"
            f"s.sendall(b'\\5\\1\\0\\5\\1\\0\\3\\6node_c' + struct.pack('!H', {PORT}))\n"
            "s.recv(2), s.recv(10); print('in', flush=True); sys.stdin.read()\n"
        )
        client = trio.b.popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert client.stdout is not None and client.stdout.readline() == "in\n"
        assert has_keepalive(trio.b, proxy.port) == 1
        assert has_keepalive(trio.b, PORT) == 1
        client.terminate()


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("host", "replaced"),
        ("isolated", "killed"),
        *(pytest.param("host", ending, marks=pytest.mark.slow) for ending in ("down", "killed")),
        *(pytest.param("isolated", ending, marks=pytest.mark.slow) for ending in ("down", "replaced")),
    ],
)
def test_the_proxy_ends_with_its_daemon(trio: Trio, kind: str, ending: str) -> None:
    """Also where another daemon, or another interface of the same name, is there at once."""
    host, user = (trio.b, ()) if kind == "host" else (trio.a, NOBODY)
    with proxy_of(trio, kind) as proxy:
        pid = json.loads(host.run([*user, "wh", "inspect", INTERFACE]).stdout)["pid"]
        if ending == "down":
            host.run([*user, "wh", "down", INTERFACE])
        else:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid), 5, "the daemon is dead")
        if ending == "replaced":
            trio.up(host, *user)
        assert proxy.process.wait(5) == 3
        assert proxy.process.stderr is not None and "WH310" in proxy.process.stderr.read()
    if ending != "replaced":
        trio.up(host, *user)


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
