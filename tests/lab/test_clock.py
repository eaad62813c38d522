"""A machine whose clock was once ahead: what it said then must not keep it out once the clock is right."""

from __future__ import annotations

from clocks import Clocks
from labnet import Host, Lab
from pinging import answers_within

ADDRESSES = {"node_a": "192.0.2.1", "node_b": "192.0.2.2"}
PORT = 62096
AHEAD_S = 30 * 86400


def nodes(lab: Lab) -> dict[str, Host]:
    """Two members that know each other's addresses."""
    network = lab.network("net")
    made, keys = {}, {}
    for name, address in ADDRESSES.items():
        made[name] = lab.host(name)
        made[name].attach(network, f"{address}/24")
        keys[name] = made[name].shell("umask 077; wh genkey | tee key | wh pubkey").stdout.strip()
    lines = [f"trust {name} {keys[name]} {address}:{PORT}" for name, address in ADDRESSES.items()]
    for host in made.values():
        (host.directory / "config").write_text("\n".join(["name clocks", "subnet 10.0.42.0/24", *lines, ""]))
    return made


def up(host: Host, **environment: str) -> None:
    words = [
        "private-key",
        "./key",
        "interface",
        "wh0",
        "mode",
        "direct",
    ]  # so that only who has traffic begins
    host.run(["wh", "up", "./config", *words], env=environment)


def test_a_clock_that_was_ahead_and_was_set_right_keeps_nobody_out(lab: Lab) -> None:
    clocks = Clocks(lab.host("workshop").directory)
    clocks.set(wall_ahead_s=AHEAD_S)
    hosts = nodes(lab)
    a, b = hosts["node_a"], hosts["node_b"]
    up(b)
    up(a, **clocks.environment)
    assert answers_within(a, "node_b", 10)
    a.run(["wh", "down", "wh0"])

    up(a)
    assert answers_within(a, "node_b", 10)
    a.run(["wh", "down", "wh0"])
    up(a)  # and what it said since is remembered too
    assert answers_within(a, "node_b", 10)
