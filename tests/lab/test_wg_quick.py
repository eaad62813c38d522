"""`wg-quick` takes `wh-wireguard` as its userspace implementation."""

from pathlib import Path

import pytest

from labnet import Host, Lab, wait_until
from pinging import lost

USERSPACE = {"WG_QUICK_USERSPACE_IMPLEMENTATION": "wh-wireguard"}
PORT = 51820


def write_file(host: Host, name: str, number: int, peer: Host, allowed_ips: str) -> Path:
    path = host.directory / f"{name}.conf"
    path.touch(0o600)
    path.write_text(
        f"[Interface]\nPrivateKey = {(host.directory / 'key').read_text().strip()}\nListenPort = {PORT}\n"
        f"Address = 10.9.0.{number}/24, fd09::{number}/64\n\n"
        f"[Peer]\nPublicKey = {(peer.directory / 'public').read_text().strip()}\n"
        f"AllowedIPs = {allowed_ips}\nEndpoint = 192.0.2.{3 - number}:{PORT}\n"
    )
    return path


@pytest.mark.parametrize(
    "allowed_ips", ["10.9.0.0/24, fd09::/64", "0.0.0.0/0, ::/0"], ids=["the peer's", "default route"]
)
def test_wg_quick_brings_interfaces_up_and_down(lab: Lab, allowed_ips: str) -> None:
    wire = lab.network("wire")
    hosts = [lab.host(f"end{number}") for number in (1, 2)]
    for number, host in enumerate(hosts, 1):
        host.attach(wire, f"192.0.2.{number}/24")
        host.shell("umask 077; wg genkey > key; wg pubkey < key > public")
    files = [
        write_file(host, f"wq{number}-{lab.token}", number, hosts[2 - number], allowed_ips)
        for number, host in enumerate(hosts, 1)
    ]
    for host, path in zip(hosts, files, strict=True):
        host.run(["wg-quick", "up", path], env=USERSPACE)
    for address in ("10.9.0.2", "fd09::2"):
        assert lost(hosts[0].run(["ping", "-c3", "-i0.1", "-W3", address]).stdout) == 0
    for host, path in zip(hosts, files, strict=True):
        host.run(["wg-quick", "down", path])
        assert path.stem not in host.ip("link", "show")
        wait_until(lambda host=host: not host.pids(), 5, "the process has ended")
