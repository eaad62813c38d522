"""Hosts with a WireGuard interface, ours or Debian's wireguard-go, and what the lab tests do with them."""

from __future__ import annotations

import filecmp
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labnet import Host, Lab, wait_until

CONSOLE = Path(__file__).with_name("wireguard_console.py")
UAPI_DIRECTORY = Path("/var/run/wireguard")
GO_ENVIRONMENT = {"WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1", "LOG_LEVEL": "error"}
PORT = 51820
PINGS = 3
IPERF_PORTS = range(5201, 5300)
FILE_PORT = 7000

MESSAGE_OVERHEAD = 32  # of a data message: header 16, tag 16
INITIATION_LEN = 148
RESPONSE_LEN = 92


@dataclass
class End:
    """One host with a WireGuard interface. outer: without WireGuard, inner: within."""

    host: Host
    interface: str
    outer: str
    outer6: str
    inner: str
    inner6: str
    port: int = PORT
    key_file: str = "key"
    public_key: str = ""
    console: subprocess.Popen[str] | None = None

    @property
    def uapi_socket(self) -> Path:
        return UAPI_DIRECTORY / f"{self.interface}.sock"

    # Life.

    def start(self, implementation: str = "ours") -> None:
        """ours: in the background, as wg-quick does it. go: Debian's. console: ours, for tell()."""
        if implementation == "ours":
            self.host.run(["wh-wireguard", self.interface])
        elif implementation == "go":
            self.host.popen(["wireguard-go", "-f", self.interface], env=GO_ENVIRONMENT)
            wait_until(self.uapi_socket.exists, 10, f"wireguard-go serves {self.interface}")
        else:
            self._start_console()

    def _start_console(self) -> None:
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

    # Configuration.

    def make_key(self) -> None:
        self.host.shell(
            f"umask 077; wg genkey > {self.key_file}; wg pubkey < {self.key_file} > {self.key_file}.public"
        )
        self.public_key = (self.host.directory / f"{self.key_file}.public").read_text().strip()

    def wg_set(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.host.run(["wg", "set", self.interface, *words], check=check)

    def set_peer(self, other: End, *words: str | Path) -> None:
        self.wg_set("peer", other.public_key, *words)

    def listen(self, *words: str) -> None:
        """Key, port, addresses; up."""
        self.wg_set("private-key", self.key_file, "listen-port", str(self.port), *words)
        self.host.ip("address", "add", f"{self.inner}/24", "dev", self.interface)
        self.host.ip("address", "add", f"{self.inner6}/64", "dev", self.interface, "nodad")
        self.host.ip("link", "set", self.interface, "up")

    def know(self, other: End, *words: str | Path, endpoint: str | None = "v4") -> None:
        """Make the other a peer; endpoint: v4, v6, an address and port, or None."""
        if endpoint is not None:
            endpoint = {"v4": f"{other.outer}:{other.port}", "v6": f"[{other.outer6}]:{other.port}"}.get(
                endpoint, endpoint
            )
            words = (*words, "endpoint", endpoint)
        self.set_peer(other, "allowed-ips", f"{other.inner}/32,{other.inner6}/128", *words)

    def set_mtu(self, mtu: int) -> None:
        self.host.ip("link", "set", self.interface, "mtu", str(mtu))

    # What `wg show` tells of the only peer, or of one.

    def show(self, what: str) -> dict[str, list[str]]:
        """By public key the words of its line."""
        printed = self.host.run(["wg", "show", self.interface, what]).stdout
        lines = [line.split() for line in printed.splitlines()]
        return {words[0]: words[1:] for words in lines}

    def endpoint_of(self, other: End) -> str:
        return self.show("endpoints")[other.public_key][0]

    def handshake_time(self, other: End) -> int:
        return int(self.show("latest-handshakes")[other.public_key][0])

    def transfer(self, other: End) -> tuple[int, int]:
        """Bytes received and sent."""
        received, sent = self.show("transfer")[other.public_key]
        return int(received), int(sent)

    # Traffic.

    def ping(self, address: str, *options: str, check: bool = True) -> int:
        """Sends PINGS of them. Returns how many were lost, with check 0.

        Each is a ping of its own: the last answer to one that sends several is lost if it takes longer than
        twice what the others took.
        """
        one = shlex.join(["ping", "-c1", "-W2" if check else "-W0.5", *options, address])
        printed = self.host.shell(f"for i in $(seq {PINGS}); do {one} || true; done").stdout
        missing = PINGS - printed.count("bytes from")
        assert not (check and missing), printed
        assert "wrong data byte" not in printed
        return missing

    def reaches(self, address: str, *options: str) -> bool:
        return self.host.run(["ping", "-c1", "-W1", *options, address], check=False).returncode == 0


def same_wire(lab: Lab, *, mtu: int = 1500) -> tuple[End, End]:
    """Two ends on one wire, each with a key."""
    wire = lab.network("wire")
    ends = []
    for number in (1, 2):
        host = lab.host(f"end{number}")
        outer, outer6 = f"192.0.2.{number}", f"2001:db8::{number}"
        host.attach(wire, f"{outer}/24", f"{outer6}/64", mtu=mtu)
        name = f"wg{number}-{lab.token[:8]}"
        ends.append(End(host, name, outer, outer6, f"10.9.0.{number}", f"fd09::{number}"))
        ends[-1].make_key()
    return ends[0], ends[1]


@contextmanager
def sockets_removed(*ends: End) -> Iterator[tuple[End, ...]]:
    """Leave no configuration socket behind, however the interface ends."""
    try:
        yield ends
    finally:
        for end in ends:
            end.uapi_socket.unlink(missing_ok=True)


def connect(ends: tuple[End, End], *, psk: bool = False, endpoint: str = "v4") -> None:
    """Make them each other's peer."""
    words: list[str | Path] = []
    if psk:
        ends[0].host.shell("umask 077; wg genpsk > psk")
        words = ["preshared-key", ends[0].host.directory / "psk"]
    for end, other in (ends, ends[::-1]):
        end.listen()
        end.know(other, *words, endpoint=endpoint)


def start_and_connect(ends: tuple[End, End], *implementations: str, endpoint: str = "v4") -> None:
    """implementations: of the first and the second end; ours where none is named."""
    for end, implementation in zip(ends, implementations or ("ours", "ours"), strict=True):
        end.start(implementation)
    connect(ends, endpoint=endpoint)


def ping_both_ways(ends: tuple[End, End]) -> None:
    for end, other in (ends, ends[::-1]):
        for address in (other.inner, other.inner6):
            end.ping(address)


class Iperf3Server:
    """An iperf3 server, and clients that run against it at the same time."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._port = IPERF_PORTS.start - 1

    def start_client(self, client: Host, address: str, *options: str) -> subprocess.Popen[str]:
        self._port += 1
        self.host.popen(["iperf3", "-s", "-1", "-p", str(self._port)], stdout=subprocess.DEVNULL)
        wait_until(self._listens, 5, "iperf3 listens")
        argv = ["iperf3", "--json", "-c", address, "-p", str(self._port), *options]
        return client.popen(argv, stdout=subprocess.PIPE)

    def _listens(self) -> bool:
        return f":{self._port} " in self.host.run(["ss", "-Hltn"]).stdout


def iperf3_summary(client: subprocess.Popen[str], timeout_s: float = 20) -> dict[str, Any]:
    """The `end` part of its report, when it has ended. Fails where it reports an error."""
    report = json.loads(client.communicate(timeout=timeout_s)[0])
    assert "error" not in report, report["error"]
    summary: dict[str, Any] = report["end"]
    return summary


def send_file(sender: Host, receiver: Host, address: str, *, megabytes: int) -> None:
    """Random bytes over TCP, which have to arrive as they were: with offloads no checksum would tell."""
    sender.shell(f"head -c {megabytes << 20} /dev/urandom > sent")
    listening = receiver.popen(["bash", "-c", f"ncat -l {address} {FILE_PORT} --recv-only > received"])
    wait_until(lambda: f":{FILE_PORT} " in receiver.run(["ss", "-Hltn"]).stdout, 5, "ncat listens")
    sender.shell(f"ncat --send-only {address} {FILE_PORT} < sent", timeout=20)
    assert listening.wait(20) == 0
    sent, received = (host.directory / name for host, name in ((sender, "sent"), (receiver, "received")))
    assert filecmp.cmp(sent, received, shallow=False), f"{sent.stat().st_size} bytes changed under way"


class PacketCounter:
    """Counts packets of a host that match a rule of nftables."""

    def __init__(self, host: Host, rule: str, hook: str = "input") -> None:
        """hook: input or output."""
        self._host = host
        self._table = f"count{len(host.run(['nft', 'list', 'tables']).stdout.splitlines())}"
        chain = f"type filter hook {hook} priority 0"
        host.run(
            ["nft", "-f", "-"],
            input=f"table inet {self._table} {{\nchain c {{\n{chain}\n{rule} counter\n}}\n}}\n",
        )

    @property
    def packets(self) -> int:
        listing = self._host.run(["nft", "-j", "list", "table", "inet", self._table]).stdout
        rules: Sequence[dict[str, Any]] = [
            item["rule"] for item in json.loads(listing)["nftables"] if "rule" in item
        ]
        return sum(part["counter"]["packets"] for part in rules[0]["expr"] if "counter" in part)
