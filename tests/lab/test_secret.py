"""A network with a `secret`: its members find each other, and nobody else is heard."""

import pytest

from labnet import Host, wait_until
from pinging import answers_within
from tutorial import Tutorial

DATA_PLANE_PORT = 62096


def write_files(tutorial: Tutorial, secret: str, *, but: Host | None = None) -> None:
    """but: the host whose file has no secret line."""
    files = {tutorial.bootstrap: ("public", tutorial.public_file())}
    files |= {host: ("config", tutorial.network_file()) for host in (tutorial.node_a, tutorial.node_b)}
    for host, (name, text) in files.items():
        (host.directory / name).write_text(text if host is but else f"{text}secret {secret}\n")


@pytest.fixture
def secret(tutorial: Tutorial) -> str:
    return tutorial.node_a.run(["wh", "genkey"]).stdout.strip()


def test_members_with_the_secret_reach_each_other(tutorial: Tutorial, secret: str) -> None:
    """In whichever of its two forms each of them wrote it."""
    write_files(tutorial, secret)
    other_form = secret.rstrip("=").translate(str.maketrans("+/", "-_"))
    (tutorial.node_b.directory / "config").write_text(f"{tutorial.network_file()}secret {other_form}\n")
    for host in tutorial.nodes:
        tutorial.up(host)
    assert answers_within(tutorial.node_a, "node_b", 5)


def test_a_member_without_the_secret_is_not_heard(tutorial: Tutorial, secret: str) -> None:
    write_files(tutorial, secret, but=tutorial.node_b)
    for host in tutorial.nodes:
        tutorial.up(host)
    assert not answers_within(tutorial.node_b, "node_a", 3)
    assert tutorial.inspect(tutorial.node_b)["dht"]["servers"] == 0
    assert tutorial.inspect(tutorial.node_a)["dht"]["servers"] == 1
    assert tutorial.inspect(tutorial.bootstrap)["data"]["drop_mac"] > 0


def test_a_members_key_without_the_secret_gets_no_wireguard_session(tutorial: Tutorial, secret: str) -> None:
    """A plain WireGuard program with node_b's key, as whoever stole it alone would use it."""
    write_files(tutorial, secret)
    tutorial.up(tutorial.node_a, "listen-port", str(DATA_PLANE_PORT))
    thief, interface = tutorial.bootstrap, f"wg-{tutorial.lab.token[-8:]}"
    thief.run(["wh-wireguard", interface])
    stolen = tutorial.node_b.directory / "wg.key"
    tutorial.node_b.shell("umask 077; tr -- -_ +/ < node_b.sk > wg.key")
    peer = tutorial.keys["node_a"].translate(str.maketrans("-_", "+/")) + "="

    def handshakes() -> int:
        return int(thief.run(["wg", "show", interface, "latest-handshakes"]).stdout.split()[1])

    words = ["peer", peer, "endpoint", f"198.51.100.10:{DATA_PLANE_PORT}", "allowed-ips", "10.0.42.2/32"]
    thief.run(["wg", "set", interface, "private-key", str(stolen), *words, "persistent-keepalive", "1"])
    thief.ip("link", "set", interface, "up")
    wait_until(lambda: tutorial.inspect(tutorial.node_a)["data"]["rx_handshake"] > 0, 10, "it was asked")
    with pytest.raises(TimeoutError):
        wait_until(handshakes, 3, "a session")
