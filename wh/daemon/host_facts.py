"""What this host has and uses, as far as others' text could take it away (wh.trust.degrees): read once, when
such text is about to become action."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from wh.config.model import HOSTNAME, IPAddress
from wh.net.links.host import of_host
from wh.net.links.netlink_socket import NetlinkSocket
from wh.net.links.routing import read_routing
from wh.net.links.tun import close_all, open_tun
from wh.trust.degrees import Held, Holding, HostFacts

RESOLVER_FILES = (
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",  # those behind its own 127.0.0.53
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/run/dnsmasq/resolv.conf",
)
RESOLVER_FILE_LEN_MAX = 64 * 1024

NAMES_WITHIN_S = 5.0
"""How long the host's resolvers may take; a name that none of them knows by then has no meaning to lose."""


def collect(names: Iterable[str] = ()) -> HostFacts:
    """names: in question, which are looked up as programs of this host would. Blocks. Raises
    SystemSetupError."""
    return HostFacts(tuple(_held()), _own_names(), _known_names(set(names)))


def rehearse_interface(name: str) -> None:
    """Make it, and let it go: whether this user may, and nothing else has the name. Raises
    SystemSetupError."""
    close_all(open_tun(name))


def _held() -> list[Held]:
    return [*of_host(_held_by_kernel), *(_single(Holding.RESOLVER, ip) for ip in resolvers())]


def _held_by_kernel(kernel: NetlinkSocket) -> list[Held]:
    links = {link.ifindex: link.name for link in kernel.links()}
    routing = read_routing(kernel)
    addresses = [
        Held(Holding.ADDRESS, entry.address.subnet, links.get(entry.ifindex, ""))
        for entry in kernel.addresses()
    ]
    gateways = [_single(Holding.GATEWAY, gateway) for gateway in routing.gateways]
    routes = [Held(Holding.ROUTE, to, links.get(ifindex, "")) for to, ifindex in routing.routes]
    return [*addresses, *gateways, *routes, *(Held(Holding.RULE, to) for to in routing.rules)]


def _single(holding: Holding, ip: IPAddress) -> Held:
    return Held(holding, ipaddress.ip_network(ip.packed))


def resolvers(paths: Iterable[str] = RESOLVER_FILES) -> list[IPAddress]:
    """The name servers of resolv.conf(5), and those behind a stub on this host."""
    found: dict[IPAddress, None] = {}
    for path in paths:
        with contextlib.suppress(OSError), Path(path).open("rb") as file:
            found.update(dict.fromkeys(_name_servers(file.read(RESOLVER_FILE_LEN_MAX))))
    return list(found)


def _name_servers(content: bytes) -> Iterator[IPAddress]:
    for line in content.decode("ascii", "replace").splitlines():
        word, *values = line.split()[:2] or [""]
        if word == "nameserver" and values and (ip := _read_ip(values[0])) is not None:
            yield ip


def _read_ip(word: str) -> IPAddress | None:
    """As the C library reads a name server: 10.1 is 10.0.0.1; a zone is for link-local addresses only."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(word.partition("%")[0])
    with contextlib.suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(word))
    return None


def _own_names() -> frozenset[str]:
    own = socket.gethostname().lower().rstrip(".")
    return frozenset({own, own.partition(".")[0]})


def _known_names(names: set[str]) -> frozenset[str]:
    """Only words that can be names are asked for."""
    known: set[str] = set()

    def look_up(name: str) -> None:
        with contextlib.suppress(OSError, UnicodeError):
            if socket.getaddrinfo(name, None):
                known.add(name.lower())

    threads = [
        threading.Thread(target=look_up, args=(name,), daemon=True)
        for name in names
        if HOSTNAME.fullmatch(name)
    ]
    deadline = time.monotonic() + NAMES_WITHIN_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return frozenset(known)
