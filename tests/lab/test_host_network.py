"""An overlay beside everything else that a host's network has, and what others do to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labnet import Host, Lab
from two_uplinks import TwoUplinks

UNRELATED = ("2001:4860:4860::8888", "2400:cb00::1", "2620:fe::fe", "2001:db8:ffff::1")


@pytest.fixture(scope="module")
def world() -> Iterator[TwoUplinks]:
    """Each test leaves it as it was."""
    with Lab("host", log=print) as lab:
        yield TwoUplinks.make(lab)


@pytest.fixture
def prefix_on_the_lan(world: TwoUplinks) -> Iterator[None]:
    """a is a router whose uplink has link-local addresses alone, and whose prefix is on its LAN's bridge."""
    host, isp, uplink = world.a.host, world.internet.isp, f"{world.site.ipv6}/64"
    for address in UNRELATED:
        isp.ip("address", "add", f"{address}/128", "dev", "lo")
    port = isp.ip("-6", "route", "get", world.site.ipv6).split("dev ")[1].split()[0]
    second = world.second.addresses(2)[1]
    host.ip("address", "del", uplink, "dev", "eth0")
    host.ip("address", "del", second, "dev", "eth1")
    host.ip("link", "add", "lan0", "type", "bridge")
    host.ip("link", "set", "lan0", "up")
    host.ip("address", "add", "2001:db8:a0::1/64", "dev", "lan0", "nodad")
    host.ip("-6", "route", "replace", "default", "via", _link_local(isp, port), "dev", "eth0")
    isp.ip("-6", "route", "add", "2001:db8:a0::/48", "via", _link_local(host, "eth0"), "dev", port)
    yield
    host.ip("link", "del", "lan0")
    host.assign("eth0", uplink)
    host.assign("eth1", second)
    host.ip("-6", "route", "replace", "default", "via", world.gateway(6, 0))


def test_a_host_without_a_global_address_on_its_uplink_keeps_its_ipv6(
    world: TwoUplinks, prefix_on_the_lan: None
) -> None:
    """Overlay addresses are for the overlay alone. Three of four destinations were lost."""
    host = world.a.host
    pings = {to: host.run(["ping", "-6", "-c1", "-W2", to], check=False).returncode for to in UNRELATED}
    assert not any(pings.values()), pings
    assert host.run(["ping", "-6", "-c1", "-W2", world.b.inspect()["orchid"]]).returncode == 0


def _link_local(host: Host, device: str) -> str:
    shown = host.ip("-6", "-o", "address", "show", "dev", device, "scope", "link")
    return shown.split()[3].split("/")[0]
