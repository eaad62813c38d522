"""Two hosts joined by a veth pair, one userspace WireGuard on each, and a tunnel between them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from implementations import ENVIRONMENT, Implementation
from labnet import Host, Lab, wait_until
from process_stat import cpu_s
from uapi_client import UAPI_DIRECTORY, set_device

PORT = 51820
START_TIMEOUT_S = 10.0


class Device:
    """One process that serves one WireGuard interface."""

    def __init__(self, host: Host, implementation: Implementation, interface: str) -> None:
        self.host = host
        self.interface = interface
        argv = implementation.argv(interface)
        self._process = host.popen(
            argv, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._serves, START_TIMEOUT_S, f"{implementation.label} serves {interface}")
        self.public_key = self._make_key()
        host.run(["wg", "set", interface, "private-key", f"{interface}.key", "listen-port", str(PORT)])

    @property
    def pid(self) -> int:
        return self._process.pid

    def _serves(self) -> bool:
        return (UAPI_DIRECTORY / f"{self.interface}.sock").exists()

    def _make_key(self) -> str:
        key_file = f"{self.interface}.key"
        return self.host.shell(f"umask 077; wg genkey > {key_file}; wg pubkey < {key_file}").stdout.strip()

    def add_peer(self, other: Device, endpoint: str, allowed_ip: str) -> None:
        peer = ["peer", other.public_key, "endpoint", f"{endpoint}:{PORT}", "allowed-ips", allowed_ip]
        self.host.run(["wg", "set", self.interface, *peer])

    def set(self, lines: Iterable[str]) -> None:
        """Change the configuration over UAPI. Raises UapiError."""
        set_device(self.interface, lines)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(START_TIMEOUT_S)
        (UAPI_DIRECTORY / f"{self.interface}.sock").unlink(missing_ok=True)


@dataclass(frozen=True)
class Wire:
    """Two hosts of a lab and the addresses of the cable between them."""

    near: Host
    far: Host
    near_outer: str = "192.0.2.1"
    far_outer: str = "192.0.2.2"


def make_wire(lab: Lab, name: str) -> Wire:
    """A veth pair with a host at each end: no bridge between that would cost time."""
    wire = Wire(lab.host(f"{name}-near"), lab.host(f"{name}-far"))
    veth = ("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", wire.far.namespace)
    wire.near.ip(*veth)
    for host, address in ((wire.near, wire.near_outer), (wire.far, wire.far_outer)):
        host.ip("address", "add", f"{address}/24", "dev", "eth0")
        host.ip("link", "set", "eth0", "up")
    return wire


class Tunnel:
    """One implementation at both ends of a wire. Its processes end with the lab at the latest."""

    near_inner = "10.9.0.1"
    far_inner = "10.9.0.2"

    def __init__(self, wire: Wire, implementation: Implementation, name: str) -> None:
        """name: at most 14 characters, unique on the machine; the interfaces are called after it."""
        self.wire = wire
        self.near = Device(wire.near, implementation, f"{name}n")
        self.far = Device(wire.far, implementation, f"{name}f")
        self.near.add_peer(self.far, wire.far_outer, f"{self.far_inner}/32")
        self.far.add_peer(self.near, wire.near_outer, f"{self.near_inner}/32")
        for device, address in ((self.near, self.near_inner), (self.far, self.far_inner)):
            device.host.ip("address", "add", f"{address}/24", "dev", device.interface)
            device.host.ip("link", "set", device.interface, "up")
        wire.near.run(["ping", "-c1", "-w10", self.far_inner])

    @property
    def pids(self) -> tuple[int, int]:
        return self.near.pid, self.far.pid

    def cpu_s(self) -> float:
        """CPU seconds that both processes used so far."""
        return sum(cpu_s(pid) for pid in self.pids)

    def stop(self) -> None:
        self.near.stop()
        self.far.stop()
