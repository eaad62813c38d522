"""Routers that map ports when they are asked to: a real miniupnpd in the router's namespace.

It refuses to map on a reserved outer address, so the router's must not be one of RFC 5737. Its NAT kind is
`random-port-mapping`, whose ruleset has the chains that miniupnpd fills.
"""

from __future__ import annotations

import re
from enum import Enum

from labnet import Router, wait_until

UUID = "5a5ca8c6-31e3-4d6b-8a8d-1d1b2d6fd1ac"
READY_S = 10.0


class PortMapper(Enum):
    """The protocols that a router speaks."""

    UPNP_IGD = "enable_upnp=yes\nenable_natpmp=no\n"
    NAT_PMP_AND_PCP = "enable_upnp=no\nenable_natpmp=yes\n"
    ALL = "enable_upnp=yes\nenable_natpmp=yes\n"


def start_miniupnpd(router: Router, mapper: PortMapper, *, lan: str = "lan") -> None:
    """Returns when it answers."""
    configuration = router.directory / "miniupnpd.conf"
    configuration.write_text(
        f"ext_ifname={Router.OUTSIDE}\nlistening_ip={lan}\n{mapper.value}uuid={UUID}\n"
        "secure_mode=yes\nsystem_uptime=yes\nmin_lifetime=20\n"
        "allow 1024-65535 0.0.0.0/0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
    )
    log = router.directory / "miniupnpd.log"
    with log.open("w") as stream:
        router.popen(
            ["miniupnpd", "-d", "-f", configuration, "-P", router.directory / "miniupnpd.pid"],
            stdout=stream.fileno(),
            stderr=stream.fileno(),
        )
    wait_until(lambda: "istening " in log.read_text(), READY_S, "miniupnpd is ready")


def mappings(router: Router) -> list[str]:
    """The rules by which miniupnpd lets ports through now."""
    listing = router.run(["nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"]).stdout
    return [line.strip() for line in listing.splitlines() if re.search(r"\bdnat\b", line)]
