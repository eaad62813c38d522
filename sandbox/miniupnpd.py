"""Routers that map ports when they are asked to: a real miniupnpd in the router's namespace.

It refuses to map on a reserved outer address, so the router's must not be one of RFC 5737. Its NAT kind is
`random-port-mapping`, whose ruleset has the chains that miniupnpd fills.
"""

from __future__ import annotations

import re
import subprocess
from enum import Enum

from labnet import Router, wait_until

UUID = "5a5ca8c6-31e3-4d6b-8a8d-1d1b2d6fd1ac"
READY_S = 10.0
LOG = "miniupnpd.log"


class PortMapper(Enum):
    """The protocols that a router speaks."""

    UPNP_IGD = "enable_upnp=yes\nenable_natpmp=no\n"
    NAT_PMP_AND_PCP = "enable_upnp=no\nenable_natpmp=yes\n"
    ALL = "enable_upnp=yes\nenable_natpmp=yes\n"


_REQUEST = re.compile(r"#Add\w*PortMapping|NAT-PMP port mapping request|PCP MAP: ")

CHAINS = ("miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd")


def start_miniupnpd(
    router: Router, mapper: PortMapper, *, lan: str = "lan", lifetime_max_s: int = 86_400
) -> subprocess.Popen[str]:
    """Returns when it answers. lifetime_max_s: of mappings by NAT-PMP and PCP."""
    configuration = router.directory / "miniupnpd.conf"
    configuration.write_text(
        f"ext_ifname={Router.OUTSIDE}\nlistening_ip={lan}\n{mapper.value}uuid={UUID}\n"
        f"secure_mode=yes\nsystem_uptime=no\nmin_lifetime=4\nmax_lifetime={lifetime_max_s}\n"
        "allow 1024-65535 0.0.0.0/0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
    )
    with (router.directory / LOG).open("w") as stream:
        process = router.popen(
            ["miniupnpd", "-d", "-f", configuration, "-P", router.directory / "miniupnpd.pid"],
            stdout=stream.fileno(),
            stderr=stream.fileno(),
        )
    wait_until(lambda: "istening " in log_of(router), READY_S, "miniupnpd is ready")
    return process


def stop_miniupnpd(router: Router, process: subprocess.Popen[str]) -> None:
    """As by a power failure: no mapping is left, and nobody was told."""
    process.kill()
    process.wait()
    for chain in CHAINS:
        router.run(["nft", "flush", "chain", "inet", "filter", chain])


def requests(router: Router) -> int:
    """How often anybody asked for a mapping, since the start."""
    return len(_REQUEST.findall(log_of(router)))


def log_of(router: Router) -> str:
    return (router.directory / LOG).read_text(errors="replace")


def mappings(router: Router) -> list[str]:
    """The rules by which miniupnpd lets ports through now."""
    listing = router.run(["nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"]).stdout
    return [line.strip() for line in listing.splitlines() if re.search(r"\bdnat\b", line)]
