"""What this machine gives a data plane, tried out without a trace, and what the lack of a thing costs."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from wh.errors import SystemSetupError
from wh.net.links.tun import TUN_DEVICE
from wh.net.private.namespace import PrivateNamespace
from wh.net.tcp.loopback import SOL_UDP, UDP_GRO, UDP_SEGMENT
from wh.privileges import landlock
from whcore import aead, offload

ENGINE_MACHINE = "x86_64"
"""Where there is an engine that is faster than libsodium."""

_PROBE = "probe"
_SECCOMP = Path("/proc/sys/kernel/seccomp/actions_avail")

_ENGINE_FIXES = {
    "not built": "install libipsec-mb-dev and build WireHub anew",
    "no library": "install libipsec-mb1 or libipsec-mb2, whichever WireHub was built with, or build it anew",
    "other version": "build WireHub anew, with the libipsec-mb-dev of this system",
    "processor": "none: this processor has no AVX2",
    "wrong results": "none: its results differ from libsodium's here; please report it",
    "unwanted": "unset WH_AEAD",
}
_OFFLOADS = {
    "TSO": ("TCP passes the interface packet by packet", "a kernel with TUN offloads"),
    "USO": ("UDP passes the interface packet by packet", "Linux 6.2, and /dev/net/tun"),
    "GSO": ("each datagram is sent by itself", "Linux 4.18"),
    "GRO": ("each datagram is received by itself", "Linux 5.0"),
}


class Missing(msgspec.Struct):
    """cost: what is slower, or does not work, without it."""

    what: str
    cost: str
    fix: str


class Abilities(msgspec.Struct):
    """engine: the library that packets are encrypted by; libsodium does all other cryptography. Each with its
    version. tun_offloads: None where none could be tried. landlock: the kernel's version of it, 0: none."""

    engine: str
    libsodium: str
    tun_offloads: list[str] | None
    udp_offloads: list[str]
    kernel: str
    machine: str
    landlock: int
    seccomp: bool
    python: str
    missing: list[Missing] = []


def abilities() -> Abilities:
    versions = {name: f"{name} {version}" for name, version in aead.versions().items()}
    tun_offloads, refused = _try_interface()
    found = Abilities(
        engine=versions[aead.engine()],
        libsodium=versions["libsodium"],
        tun_offloads=tun_offloads,
        udp_offloads=_try_socket(),
        kernel=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        landlock=landlock.abi(),
        seccomp=_SECCOMP.exists(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )
    found.missing = [*missing_engine(aead.obstacle(), found.machine), *refused, *missing_of_kernel(found)]
    return found


def missing_engine(obstacle: str, machine: str) -> Iterator[Missing]:
    """obstacle: of whcore.aead."""
    if obstacle and machine == ENGINE_MACHINE:
        yield Missing("IPsec-MB", "TCP at about half the rate", _ENGINE_FIXES[obstacle])


def missing_of_kernel(found: Abilities) -> Iterator[Missing]:
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        yield Missing(
            TUN_DEVICE,
            "no interface of this host; 0nc, and what is isolated, use a veth pair",
            "modprobe tun; in a container: --device /dev/net/tun",
        )
    wanted = [("GSO", found.udp_offloads), ("GRO", found.udp_offloads)]
    if found.tun_offloads is not None:
        wanted = [("TSO", found.tun_offloads), ("USO", found.tun_offloads), *wanted]
    yield from (Missing(name, *_OFFLOADS[name]) for name, there in wanted if name not in there)
    confining = [
        name for name, there in (("Landlock", found.landlock), ("seccomp", found.seccomp)) if not there
    ]
    if confining:
        yield Missing(
            " and ".join(confining),
            "a daemon that is taken over may do all that its user may",
            "Linux 5.13 with Landlock and seccomp switched on",
        )


def _try_interface() -> tuple[list[str] | None, list[Missing]]:
    """The offloads of a TUN, or of what stands in for it, in a namespace of its own."""
    try:
        with PrivateNamespace() as namespace:
            (fd,) = namespace.open_tun(_PROBE)
    except SystemSetupError as error:
        cost = "0nc and wh up ... isolated do not start"
        return None, [Missing("private network namespaces", cost, error.hint)]
    try:
        return list(offload.granted(fd)), []
    finally:
        os.close(fd)


def _try_socket() -> list[str]:
    granted = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name, option in (("GSO", UDP_SEGMENT), ("GRO", UDP_GRO)):
            try:
                probe.setsockopt(SOL_UDP, option, 1)
            except OSError:
                continue
            granted.append(name)
    return granted
