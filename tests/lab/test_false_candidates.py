"""A peer that names others' addresses as its own makes no weapon of those who look for it."""

from __future__ import annotations

from internet import Internet
from labnet import Lab, wait_until
from nodes import Node, PublicNodes, members_file
from wireguard_ends import PacketCounter

SECONDS = 7
PROBE_LEN_MAX = 64
PROBES_MAX = 24
"""To an address nobody has validated, in one attempt (docs/protocol.md section 7)."""
ATTEMPTS = 2
"""At once, and after 5 s."""
BURST, PAUSE_S = 4, 2
"""Handshakes to such an address (docs/protocol.md section 2)."""


def test_victim_hears_no_more_than_the_limits_allow(lab: Lab) -> None:
    internet = Internet(lab)
    publics = PublicNodes(internet)
    victim = internet.site("victim", "open")
    sites = [internet.site(name, "port-restricted") for name in ("liar", "seeker")]
    liar, seeker = (Node(site.host, site.name) for site in sites)
    liar.host.assign("eth0", f"{victim.public_ipv4}/32")  # so it takes it for an address of its own
    publics.up()
    short = PacketCounter(victim.host, f"udp length <= {8 + PROBE_LEN_MAX}")
    longer = PacketCounter(victim.host, f"udp length > {8 + PROBE_LEN_MAX}")
    for node in (liar, seeker):
        node.up(members_file(publics, (liar, seeker)))
    seeker.host.run(["ping", "-4", "-q", "-i0.2", f"-w{SECONDS}", "liar"], check=False)
    assert any(victim.public_ipv4 in candidate for candidate in liar.inspect()["candidates"])
    wait_until(lambda: short.packets + longer.packets, 5, "the lie is believed as far as it goes")
    assert short.packets <= ATTEMPTS * PROBES_MAX
    assert longer.packets <= BURST + (SECONDS + 5) / PAUSE_S
