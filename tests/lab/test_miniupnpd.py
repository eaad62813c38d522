"""Routers with miniupnpd: what independent clients ask of them opens a port, and nothing else does."""

from __future__ import annotations

import pytest

from inside import udp_socket
from internet import Internet
from labnet import Lab
from miniupnpd import mappings

CLIENTS = {
    "upnp": ["upnpc", "-a", "192.168.1.2", "6000", "6000", "udp", "60"],
    "nat-pmp": ["natpmpc", "-g", "192.168.1.1", "-a", "6000", "6000", "udp", "60"],
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_mapped_port_lets_strangers_in(lab: Lab, kind: str) -> None:
    internet = Internet(lab, publics=1)
    site = internet.site("site", kind)
    stranger = udp_socket(internet.publics[0].host, "", 7000)
    with stranger, udp_socket(site.host, "", 6000) as client:
        stranger.sendto(b"too early", (site.public_ipv4, 6000))
        assert mappings(site.routers[0]) == []
        site.host.run(CLIENTS[kind])
        assert len(mappings(site.routers[0])) == 1
        stranger.sendto(b"in", (site.public_ipv4, 6000))
        assert client.recvfrom(100)[0] == b"in"


@pytest.mark.parametrize("kind", CLIENTS)
def test_router_speaks_one_protocol_only(lab: Lab, kind: str) -> None:
    site = Internet(lab, publics=0).site("site", kind)
    (other,) = [client for name, client in CLIENTS.items() if name != kind]
    site.host.run(["timeout", "3", *other], check=False)
    assert mappings(site.routers[0]) == []
