"""Network managers of today, really running in a host of the lab, and restarted: the overlay stays.

Each has mounts of its own over the directories where it keeps things, and a bus of its own; nothing of this
machine's is touched.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from labnet import Host, Lab, LabError, wait_until
from nodes import INTERFACE
from test_host_network import complete
from two_uplinks import TwoUplinks
from unpacked import unpacked

pytestmark = pytest.mark.slow

START_S = 20.0
SETTLE_S = 5.0
"""What a manager does late it has done by then."""
GAP_MAX_S = 15.0
"""The uplink itself goes away for a while in some restarts."""

OWN_MOUNTS = """
set -e
mount -t tmpfs tmpfs /run
mount -o remount,ro,bind /sys  # or they wait for udev
"""


BUS = """<busconfig>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"""


def start_bus(world: TwoUplinks) -> None:
    """For all users of a: networkd gives up root. An abstract address is the network namespace's."""
    host = world.a.host
    configuration = host.directory / "bus.conf"
    host.variables["DBUS_SYSTEM_BUS_ADDRESS"] = address = f"unix:abstract={host.namespace}"
    configuration.write_text(BUS.format(address=address))
    host.popen(["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile"])
    wait_until(lambda: f"@{host.namespace}" in host.run(["ss", "-Hlx"]).stdout, 10, "the bus listens")


class Manager(ABC):
    """Of a's first uplink, eth0, which has the addresses that it had."""

    def __init__(self, world: TwoUplinks) -> None:
        self.world = world
        self.host: Host = world.a.host
        self.directory = self.host.directory / "manager"
        self.directory.mkdir(exist_ok=True)
        self.process: subprocess.Popen[str] | None = None

    def addresses(self) -> tuple[str, str]:
        return f"{self.world.site.public_ipv4}/24", f"{self.world.site.ipv6}/64"

    def gateways(self) -> tuple[str, str]:
        return self.world.gateway(4, 0), self.world.gateway(6, 0)

    def run_as_daemon(self, script: str) -> None:
        log = (self.directory / "log").open("a")
        self.process = self.host.popen(
            ["bash", "-c", OWN_MOUNTS + script], stdout=log.fileno(), stderr=subprocess.STDOUT
        )
        log.close()

    @abstractmethod
    def start(self) -> None:
        """Returns when eth0 is its own, and configured."""

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(START_S)

    def restart(self) -> None:
        self.stop()
        self.start()


class Networkd(Manager):
    def start(self) -> None:
        program = Path("/lib/systemd/systemd-networkd")
        if not program.exists():
            pytest.skip(f"there is no {program}")
        network = self.directory / "network"
        network.mkdir(exist_ok=True)
        lines = [
            "[Match]",
            "Name=eth0",
            "[Network]",
            "IPv6AcceptRA=no",
            *(f"Address={address}" for address in self.addresses()),
            *(f"Gateway={gateway}" for gateway in self.gateways()),
        ]
        (network / "20-uplink.network").write_text("\n".join([*lines, ""]))
        self._more(network)
        state = self.directory / "netif"
        if self.process is None:  # as at boot: it takes no addresses over that others gave
            self.host.ip("address", "flush", "dev", "eth0", "scope", "global")
        self.run_as_daemon(f"""
mkdir -p /run/systemd/netif /run/systemd/network
cp {network}/*.network /run/systemd/network
rm -rf {state}; mkdir {state}; chown systemd-network: {state}
mount --bind {state} /run/systemd/netif
exec {program}
""")
        wait_until(lambda: self._configured(state), START_S, "networkd has configured eth0")

    def _more(self, network: Path) -> None:
        """Files beside that."""

    def _configured(self, state: Path) -> bool:
        index = self.host.ip("-o", "link", "show", "eth0").split(":")[0]
        link = state / "links" / index
        return link.exists() and "ADMIN_STATE=configured" in link.read_text()


class NetworkdOfAll(Networkd):
    """A file that is about every interface, as clouds and containers have it; eth0 has one of its own."""

    def _more(self, network: Path) -> None:
        (network / "90-all.network").write_text("[Match]\nName=*\n[Network]\nLinkLocalAddressing=ipv6\n")


class NetworkdTold(NetworkdOfAll):
    """The same, with the file that WireHub brings."""

    def _more(self, network: Path) -> None:
        super()._more(network)
        shutil.copy(Path(__file__).parents[2] / "share" / "10-wirehub-unmanaged.network", network)


class NetworkManager(Manager):
    def start(self) -> None:
        try:
            self.root = unpacked(self.directory, "network-manager", "libnm0", "libndp0")
        except LabError as error:
            pytest.skip(str(error))
        (self.directory / "NetworkManager.conf").write_text(
            "[main]\nplugins=keyfile\nauth-polkit=false\ndhcp=internal\ndns=none\nno-auto-default=*\n"
            "[keyfile]\npath=/run/connections\n[logging]\nlevel=INFO\n"
        )
        (ipv4, ipv6), (gateway4, gateway6) = self.addresses(), self.gateways()
        (self.directory / "uplink.nmconnection").write_text(
            "[connection]\nid=uplink\nuuid=8d6c7b1e-0c5c-4b7e-9d3f-2a1f5d0c9e11\ntype=ethernet\n"
            f"interface-name=eth0\n[ipv4]\nmethod=manual\naddress1={ipv4},{gateway4}\n"
            f"[ipv6]\nmethod=manual\naddress1={ipv6},{gateway6}\n"
        )
        (plugins,) = self.root.glob("usr/lib/*/NetworkManager/[0-9]*")
        arguments = shlex.join(
            [
                *("--no-daemon", f"--config={self.directory}/NetworkManager.conf"),
                *("--config-dir=/run/none", "--system-config-dir=/run/none", "--intern-config=/run/intern"),
                *("--state-file=/var/lib/NetworkManager/state", "--pid-file=/run/nm.pid"),
            ]
        )
        self.run_as_daemon(f"""
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/NetworkManager /run/connections /run/none /var/lib/NetworkManager
install -m 600 {self.directory}/uplink.nmconnection /run/connections
export LD_LIBRARY_PATH={plugins.parent.parent}
exec {self.root}/usr/sbin/NetworkManager {arguments}
""")
        wait_until(lambda: "eth0:connected" in self.nmcli("device"), START_S, "NetworkManager has eth0")

    def nmcli(self, *words: str) -> str:
        (libraries,) = (each.parent for each in self.root.glob("usr/lib/*/libnm.so.0"))
        return self.host.run(
            [self.root / "usr/bin/nmcli", "-t", "-f", "DEVICE,STATE", *words],
            env={"LD_LIBRARY_PATH": str(libraries)},
            check=False,
        ).stdout


class Ifupdown(Manager):
    def start(self) -> None:
        try:
            self.root = unpacked(self.directory, "ifupdown")
        except LabError as error:
            pytest.skip(str(error))
        (ipv4, ipv6), (gateway4, gateway6) = self.addresses(), self.gateways()
        (self.directory / "interfaces").write_text(
            f"auto eth0\niface eth0 inet static\n  address {ipv4}\n  gateway {gateway4}\n"
            f"iface eth0 inet6 static\n  address {ipv6}\n  gateway {gateway6}\n  dad-attempts 0\n"
        )
        self.host.ip("address", "flush", "dev", "eth0", "scope", "global")
        self._call("ifup", "--force")

    def _call(self, verb: str, *words: str) -> None:
        state = self.directory / "state"
        state.mkdir(exist_ok=True)
        options = f"--interfaces={self.directory}/interfaces --state-dir={state} --no-scripts -a"
        self.host.run(["bash", "-c", f"{self.root}/sbin/{verb} {options} {shlex.join(words)}"], timeout=60)

    def stop(self) -> None:
        self._call("ifdown", "--force")


@pytest.fixture
def world() -> Iterator[TwoUplinks]:
    with Lab("managers", log=print) as lab:
        yield TwoUplinks.make(lab, before_up=start_bus)


@pytest.mark.parametrize("kind", [Networkd, NetworkdOfAll, NetworkdTold, NetworkManager, Ifupdown])
def test_the_overlay_stays_through_a_restart_of_a_manager(world: TwoUplinks, kind: type[Manager]) -> None:
    manager = kind(world)
    manager.start()
    time.sleep(SETTLE_S)
    wait_until(lambda: complete(world), SETTLE_S, "the interface has all that it needs")
    world.wait_until_direct()
    gap_s = world.gap_s(manager.restart, after_s=SETTLE_S)
    print(f"{kind.__name__} restarted: {gap_s:.2f} s")
    assert complete(world)
    assert gap_s < GAP_MAX_S
    world.wait_until_direct()
    manager.stop()
    assert f"{INTERFACE}: " in world.a.host.ip("link")
