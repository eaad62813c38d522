"""`wh-wireguard` against Debian's wireguard-go, configured by `wg`, on real interfaces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labnet import Host, Lab, wait_until
from pinging import RunningPing, lost

CONSOLE = Path(__file__).with_name("wireguard_console.py")
UAPI_DIRECTORY = Path("/var/run/wireguard")
GO_ENVIRONMENT = {"WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1", "LOG_LEVEL": "error"}


@dataclass
class End:
    """One host with a WireGuard interface."""

    host: Host
    interface: str
    outer: str
    inner: str
    inner6: str
    public_key: str = ""
    console: subprocess.Popen[str] | None = None

    @property
    def uapi_socket(self) -> Path:
        return UAPI_DIRECTORY / f"{self.interface}.sock"

    def start(self, *argv: str | Path) -> None:
        self.host.popen(argv, env=GO_ENVIRONMENT)
        wait_until(self.uapi_socket.exists, 10, f"{argv[0]} serves {self.interface}")

    def start_console(self) -> None:
        argv = (sys.executable, CONSOLE, self.interface)
        self.console = self.host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.expect("ready")

    def expect(self, line: str) -> None:
        assert self.console is not None
        assert self.console.stdout is not None
        assert self.console.stdout.readline().strip() == line

    def tell(self, line: str) -> None:
        assert self.console is not None
        assert self.console.stdin is not None
        self.console.stdin.write(line + "\n")
        self.console.stdin.flush()
        self.expect(line.split()[0])

    def make_key(self) -> None:
        self.host.shell("umask 077; wg genkey > key; wg pubkey < key > public")
        self.public_key = (self.host.directory / "public").read_text().strip()

    def configure(self, other: End, psk: Path | None) -> None:
        preshared = ["preshared-key", psk] if psk else []
        self.host.run(
            ["wg", "set", self.interface, "private-key", "key", "listen-port", "51820"]
            + ["peer", other.public_key, *preshared, "allowed-ips", f"{other.inner}/32,{other.inner6}/128"]
            + ["endpoint", f"{other.outer}:51820"]
        )
        self.host.ip("address", "add", f"{self.inner}/24", "dev", self.interface)
        self.host.ip("address", "add", f"{self.inner6}/64", "dev", self.interface, "nodad")
        self.host.ip("link", "set", self.interface, "up")


@pytest.fixture
def ends(lab: Lab) -> Iterator[tuple[End, End]]:
    wire = lab.network("wire")
    made = []
    for number in (1, 2):
        host = lab.host(f"end{number}")
        host.attach(wire, f"192.0.2.{number}/24")
        name = f"wg{number}-{lab.token[:8]}"
        made.append(End(host, name, f"192.0.2.{number}", f"10.9.0.{number}", f"fd09::{number}"))
        made[-1].make_key()
    try:
        yield made[0], made[1]
    finally:
        for end in made:
            end.uapi_socket.unlink(missing_ok=True)


def configure(ends: tuple[End, End], *, psk: bool = False) -> None:
    shared = ends[0].host.directory / "psk" if psk else None
    if shared:
        ends[0].host.shell("umask 077; wg genpsk > psk")
    ends[0].configure(ends[1], shared)
    ends[1].configure(ends[0], shared)


def ping_both_ways(ends: tuple[End, End]) -> None:
    for end, other in (ends, ends[::-1]):
        for address in (other.inner, other.inner6):
            assert lost(end.host.run(["ping", "-c5", "-i0.1", "-W3", address]).stdout) == 0


@pytest.mark.parametrize("psk", [False, True], ids=["no psk", "psk"])
def test_wireguard_go_and_we_ping_each_other(ends: tuple[End, End], psk: bool) -> None:
    theirs, ours = ends
    theirs.start("wireguard-go", "-f", theirs.interface)
    ours.host.run(["wh-wireguard", ours.interface])  # returns with the interface made, as wireguard-go does
    configure(ends, psk=psk)
    ping_both_ways(ends)
    shown = ours.host.run(["wg", "show", ours.interface]).stdout
    assert theirs.public_key in shown
    assert "latest handshake" in shown
    assert ("preshared key" in shown) == psk


def test_no_ping_is_lost_across_rekeys_with_wireguard_go(ends: tuple[End, End]) -> None:
    theirs, ours = ends
    theirs.start("wireguard-go", "-f", theirs.interface)
    ours.start_console()
    configure(ends, psk=True)
    ping = RunningPing(theirs.host, ours.inner, per_second=100)
    first = handshake_time(ours)
    for _ in range(3):
        ping.wait_for_answers(50)
        ours.tell(f"rekey {theirs.public_key}")
    ping.wait_for_answers(50)
    assert handshake_time(ours) > first
    assert lost(ping.stop()) <= 1  # the packet under way when ping ended
    ping_both_ways(ends)


def test_the_interpreter_lock_held_for_5_s_costs_no_packet(ends: tuple[End, End]) -> None:
    for end in ends:
        end.start_console()
    configure(ends)
    ping = RunningPing(ends[0].host, ends[1].inner, per_second=100)
    before = handshake_time(ends[0])
    ends[1].tell("hold 5")
    ping.wait_for_answers(100)
    ends[0].tell(f"rekey {ends[1].public_key}")
    ping.wait_for_answers(100)
    assert handshake_time(ends[0]) > before, "the handshake was answered while the lock was held"
    ping.wait_for_answers(400)
    assert lost(ping.stop()) <= 1


def handshake_time(end: End) -> int:
    return int(end.host.run(["wg", "show", end.interface, "latest-handshakes"]).stdout.split()[1])


def test_the_process_ends_with_its_interface(ends: tuple[End, End]) -> None:
    ours = ends[0]
    ours.host.run(["wh-wireguard", ours.interface])
    ours.host.ip("link", "delete", ours.interface)
    wait_until(lambda: not ours.uapi_socket.exists(), 5, "the configuration socket is removed")
    wait_until(lambda: not ours.host.pids(), 5, "the process has ended")


def test_wrong_configurations_are_refused_and_change_nothing(ends: tuple[End, End]) -> None:
    ours = ends[0]
    ours.host.run(["wh-wireguard", ours.interface])
    good = ends[1].public_key
    ours.host.run(["wg", "set", ours.interface, "peer", good, "allowed-ips", "10.9.0.2/32"])
    zeros = "A" * 43 + "="
    assert ours.host.run(["wg", "set", ours.interface, "peer", zeros], check=False).returncode != 0
    for junk in (
        "set=2\n\n",
        "get=1\nx\n\n",
        "set=1\npublic_key=zz\n\n",
        "x" * 10_000,
        "set=1\nfwmark=-1\n\n",
    ):
        ours.host.run(["ncat", "-U", ours.uapi_socket, "-i", "500ms"], input=junk, check=False)
    assert ours.host.run(["wg", "show", ours.interface, "allowed-ips"]).stdout.split() == [
        good,
        "10.9.0.2/32",
    ]
    busy = ours.host.run(["wh-wireguard", ours.interface], check=False)
    assert busy.returncode == 1
    assert "WH211" in busy.stderr
