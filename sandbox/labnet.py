"""Hosts, networks and routers in network namespaces of their own, for the lab tests and the demo.

A host or router is one namespace. A network is one more namespace that holds a bridge. Cables are veth pairs
made directly between the two, so the machine's own namespace never sees a device. All names carry a random
token: several labs, also of several programs, can run side by side. Leaving the `with` block, for whatever
reason, ends every process that runs in the lab's namespaces and removes all that was made.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from nat_rules import NAT_RULESETS, ruleset

T = TypeVar("T")
Argv = Sequence[str | Path]

NETNS_ETC = Path("/etc/netns")
"""`ip netns exec NAME` binds the files of NETNS_ETC/NAME over those of /etc."""

TOKEN_VARIABLE = "WH_LAB_TOKEN"  # noqa: S105 (names a lab, protects nothing)
"""Environment variable of everything that runs in a lab, by which leftovers() finds it."""

COMMAND_TIMEOUT_S = 60.0
TERMINATION_GRACE_S = 3.0
POLL_S = 0.02

HOSTS_FILE = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
RESOLV_FILE = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"


class LabError(Exception):
    """The lab itself could not do what was asked of it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: unwinds like Ctrl-C, so that every lab is removed."""


def missing_requirements() -> str | None:
    """Why no lab can be made on this machine, or None where it can."""
    if os.geteuid() != 0:
        return "the lab needs root"
    for tool in ("ip", "nft", "ping", "sysctl"):
        if shutil.which(tool) is None:
            return f"the lab needs the program {tool}"
    if not Path("/dev/net/tun").exists():
        return "the lab needs /dev/net/tun"
    probe = f"probe-{secrets.token_hex(4)}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode != 0:
        return f"the lab needs network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return None


def wait_until(predicate: Callable[[], T], deadline_s: float, what: str) -> T:
    """Call predicate until its answer is true and return that. Raises TimeoutError, which names what."""
    give_up_at = time.monotonic() + deadline_s
    while not (answer := predicate()):
        if time.monotonic() >= give_up_at:
            raise TimeoutError(f"not within {deadline_s:g} s: {what}")
        time.sleep(POLL_S)
    return answer


def leftovers(token: str) -> list[str]:
    """Everything that still carries a lab's token: namespaces, /etc overlays, devices, processes."""
    found = [f"namespace {name}" for name in namespaces() if token in name]
    if NETNS_ETC.is_dir():
        found += [f"directory {path}" for path in NETNS_ETC.iterdir() if token in path.name]
    found += [f"device {name}" for name in _device_names() if token in name]
    found += [f"process {pid}" for pid in _pids_with_environment(f"{TOKEN_VARIABLE}={token}".encode())]
    return found


def _device_names() -> list[str]:
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def namespaces() -> list[str]:
    listing = _ip("netns", "list").stdout
    return [line.split()[0] for line in listing.splitlines() if line]


def _pids_with_environment(entry: bytes) -> Iterator[int]:
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it ended while we looked
            if entry in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    answer = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    if answer.returncode != 0:
        raise LabError(f"ip {' '.join(arguments)}: {answer.stderr.strip()}")
    return answer


class _Namespace:
    """One network namespace. It exists from construction until remove()."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.namespace = f"{lab.name}-{lab.token}-{name}"
        _ip("netns", "add", self.namespace)
        # An IPv6 address under duplicate detection cannot be used for a second; we know our addresses.
        _ip("netns", "exec", self.namespace, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> str:
        """Run `ip` on this namespace and return what it prints."""
        return _ip("-n", self.namespace, *arguments).stdout

    def pids(self) -> list[int]:
        """The processes whose network namespace this is."""
        listing = _ip("netns", "pids", self.namespace).stdout
        return [int(line) for line in listing.split()]

    def remove(self) -> None:
        _ip("netns", "del", self.namespace)


def join_devices(a: _Namespace, device_a: str, b: _Namespace, device_b: str, *, mtu: int = 1500) -> None:
    """A cable between two new devices, both up."""
    _ip(
        *("link", "add", device_a, "mtu", str(mtu), "netns", a.namespace, "type", "veth"),
        *("peer", "name", device_b, "mtu", str(mtu), "netns", b.namespace),
    )
    a.ip("link", "set", device_a, "up")
    b.ip("link", "set", device_b, "up")


class Network(_Namespace):
    """An Ethernet segment: a bridge that cables are plugged into."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab, name)
        self._ports = 0
        self.ip("link", "add", "bridge", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        self.ip("link", "set", "bridge", "up")

    def next_port(self) -> str:
        self._ports += 1
        return f"port{self._ports}"


class Host(_Namespace):
    """A machine: its own network stack, /etc/hosts and WireHub directories."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab, name)
        self.directory = lab.directory / name
        self.etc = NETNS_ETC / self.namespace
        self.variables: dict[str, str] = {}  # of the environment of its programs
        self._processes: list[subprocess.Popen[str]] = []
        self._make_files()

    def _make_files(self) -> None:
        self.etc.mkdir(parents=True)
        (self.etc / "hosts").write_text(HOSTS_FILE)
        (self.etc / "resolv.conf").write_text(RESOLV_FILE)
        for variable, folder in self._wirehub_directories().items():
            folder.mkdir(parents=True)
            self.lab.log(f"{self.name}: {variable}={folder}")

    def _wirehub_directories(self) -> dict[str, Path]:
        return {
            "WH_RUNDIR": self.directory / "run",
            "WH_STATEDIR": self.directory / "state",
        }

    @property
    def hosts_file(self) -> Path:
        """What processes of this host see as /etc/hosts."""
        return self.etc / "hosts"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables that run() and popen() give to a program."""
        own = {variable: str(folder) for variable, folder in self._wirehub_directories().items()}
        path = (
            f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where `wh` is, in a virtual environment
        )
        return {
            **os.environ,
            **own,
            **self.variables,
            "PATH": path,
            TOKEN_VARIABLE: self.lab.token,
            **(extra or {}),
        }

    def attach(self, network: Network, *addresses: str, device: str = "eth0", mtu: int = 1500) -> None:
        """Plug a new device into a network and give it addresses such as 192.0.2.7/24 or 2001:db8::7/64."""
        port = network.next_port()
        join_devices(self, device, network, port, mtu=mtu)
        network.ip("link", "set", port, "master", "bridge")
        self.assign(device, *addresses)

    def assign(self, device: str, *addresses: str) -> None:
        """Give a device addresses such as 192.0.2.7/24 or 2001:db8::7/64."""
        for address in addresses:
            self.ip("address", "add", address, "dev", device)
        addresses_of_device = ("-6", "address", "show", "dev", device)
        wait_until(lambda: "tentative" not in self.ip(*addresses_of_device), 5, f"{device} has its addresses")

    def ipv4_addresses(self, device: str) -> list[str]:
        """In the order in which they were assigned."""
        listing = self.ip("-4", "-o", "address", "show", "dev", device)
        return [line.split()[3].split("/")[0] for line in listing.splitlines()]

    def default_route(self, gateway: str) -> None:
        self.route("default", gateway)

    def route(self, destination: str, gateway: str) -> None:
        self.ip("-6" if ":" in gateway else "-4", "route", "add", destination, "via", gateway)

    def argv(self, argv: Argv) -> list[str]:
        """The command line that runs argv on this host."""
        return ["ip", "netns", "exec", self.namespace, *map(str, argv)]

    def run(
        self,
        argv: Argv,
        *,
        check: bool = True,
        timeout: float = COMMAND_TIMEOUT_S,
        env: Mapping[str, str] | None = None,
        input: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, in the host's own directory, its output as text.

        With check, an exit code other than 0 raises LabError.
        """
        prompt = f"{self.name}$ {' '.join(map(str, argv))}"
        self.lab.log(prompt)
        answer = subprocess.run(
            self.argv(argv),
            capture_output=True,
            text=True,
            input=input,
            cwd=self.directory,
            timeout=timeout,
            env=self.environment(env),
        )
        self.lab.log(answer.stdout + answer.stderr)
        if check and answer.returncode != 0:
            raise LabError(f"{prompt}\nexit code {answer.returncode}\n{answer.stdout}{answer.stderr}")
        return answer

    def shell(self, command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """run() for a line of bash; a pipeline fails where any part of it does."""
        return self.run(["bash", "-eo", "pipefail", "-c", command], **options)

    def popen(
        self,
        argv: Argv,
        *,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program; it is ended with the lab at the latest. Its pid is the program's own."""
        self.lab.log(f"{self.name}$ {' '.join(map(str, argv))} &")
        process = subprocess.Popen(
            self.argv(argv),
            text=True,
            cwd=self.directory,
            env=self.environment(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
        self._processes.append(process)
        return process

    def logs(self) -> str:
        """What the daemons of this host wrote into their logs, which stand beside their sockets."""
        text = ""
        for path in sorted(self._wirehub_directories()["WH_RUNDIR"].glob("*.log")):
            text += f"--- {path.name} of {self.name}\n{path.read_text(errors='replace')}"
        return text

    def signal_processes(self, number: int) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def reap(self) -> None:
        """Collect the exit codes of the programs that popen() started, all ended by now."""
        for process in self._processes:
            process.wait(TERMINATION_GRACE_S)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def remove(self) -> None:
        super().remove()
        shutil.rmtree(self.etc)


class Router(Host):
    """A host that forwards. nat: a kind of nat_rules.NAT_RULESETS, from its other devices to `wan`."""

    OUTSIDE = "wan"

    def __init__(self, lab: Lab, name: str, nat: str = "none") -> None:
        if nat not in NAT_RULESETS:
            raise ValueError(f"no NAT kind {nat!r}; there are {', '.join(NAT_RULESETS)}")
        super().__init__(lab, name)
        self.nat = nat
        self.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        # Where br_netfilter is loaded, a bridge in the router would show the rules what it only switches.
        self.run(["sysctl", "-eqw", "net.bridge.bridge-nf-call-iptables=0"])

    def assign(self, device: str, *addresses: str) -> None:
        """The NAT begins when the outer device has its addresses: some kinds need them."""
        super().assign(device, *addresses)
        if device == self.OUTSIDE and self.nat != "none":
            self.load_nat()

    def load_nat(self, **options: int) -> None:
        """Put the rules in force, for the addresses of now. options: as of nat_rules.ruleset()."""
        rules = ruleset(self.nat, self.OUTSIDE, self.ipv4_addresses(self.OUTSIDE), **options)
        self.run(["nft", "-f", "-"], input=rules)


class Lab:
    """A set of hosts, routers and networks that exists inside a `with` block."""

    def __init__(self, name: str, *, log: Callable[[str], None] | None = None) -> None:
        """log: takes each command and its output, for a reader of a failed test."""
        self.name = name
        self.token = secrets.token_hex(3)
        self.log = log or (lambda text: None)
        self.directory = Path()
        self._members: list[_Namespace] = []
        self._signals: dict[int, Any] = {}

    def __enter__(self) -> Lab:
        self._catch_sigterm()
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-{self.token}-"))
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def network(self, name: str) -> Network:
        return self._keep(Network(self, name))

    def host(self, name: str) -> Host:
        return self._keep(Host(self, name))

    def router(self, name: str, nat: str = "none") -> Router:
        return self._keep(Router(self, name, nat))

    @property
    def hosts(self) -> list[Host]:
        return [member for member in self._members if isinstance(member, Host)]

    def logs(self) -> str:
        """What all daemons of the lab wrote into their logs."""
        return "".join(host.logs() for host in self.hosts)

    def close(self) -> None:
        """End all processes of the lab and remove all it made. Raises LabError where something stays."""
        self._ignore_signals()
        try:
            self._end_processes()
            while self._members:
                self._members.pop().remove()
            shutil.rmtree(self.directory, ignore_errors=True)
        finally:
            self._restore_signals()
        if rest := leftovers(self.token):
            raise LabError(f"left behind: {', '.join(rest)}")

    def _keep(self, member: M) -> M:
        self._members.append(member)
        return member

    def _end_processes(self) -> None:
        """SIGTERM first, so that a daemon can undo what it did outside of its namespace; then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for host in self.hosts:
                host.signal_processes(number)
            with contextlib.suppress(TimeoutError):
                wait_until(self._all_ended, TERMINATION_GRACE_S, "the lab's processes end")
        for host in self.hosts:
            host.reap()

    def _all_ended(self) -> bool:
        return not any(host.pids() for host in self.hosts)

    def _catch_sigterm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def terminate(number: int, frame: FrameType | None) -> None:
            raise Terminated

        self._signals = {signal.SIGTERM: signal.signal(signal.SIGTERM, terminate)}

    def _ignore_signals(self) -> None:
        """A second Ctrl-C must not stop the cleaning half way."""
        if self._signals:
            self._signals[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _restore_signals(self) -> None:
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        self._signals.clear()


M = TypeVar("M", bound=_Namespace)
