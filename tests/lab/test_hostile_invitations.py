"""Invitations whose author means harm, on a machine that has something to lose: nothing of it is taken."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from labnet import Lab
from wh.trust.invitation import Invitation, decode_untrusted, encode

INTERFACE = "wh0"
EXIT_BAD_INVITATION = 6


class Scene:
    """An inviter and a victim on 192.0.2.0/24. The victim also has a LAN of its own, a VPN's routes in a
    table of their own, and name servers behind a stub."""

    def __init__(self, lab: Lab) -> None:
        network, home = lab.network("net"), lab.network("home")
        self.inviter, self.victim = lab.host("inviter"), lab.host("victim")
        self.inviter.attach(network, "192.0.2.1/24")
        self.victim.attach(network, "192.0.2.2/24")
        self.victim.attach(home, "192.168.7.2/24", "fd12:3456:789a:7::2/64", device="eth1")
        self.victim.default_route("192.0.2.1")
        self.victim.ip("route", "add", "10.50.0.0/16", "via", "192.168.7.1", "table", "77")
        self.victim.ip("rule", "add", "to", "10.60.0.0/16", "lookup", "77")
        self.victim.ip("route", "add", "10.61.0.9/32", "dev", "eth1")
        self.victim.ip("route", "add", "10.70.0.0/16", "via", "10.61.0.9", "dev", "eth1", "onlink")
        self.victim.ip(
            *("route", "add", "198.18.0.0/16", "nexthop", "via", "192.168.7.1", "dev", "eth1"),
            *("nexthop", "via", "10.62.0.9", "dev", "eth1", "onlink"),
        )
        (self.victim.etc / "resolv.conf").write_text(
            "nameserver 127.0.0.1\nnameserver ::ffff:10.80.0.53\nnameserver 10.81.53\n"
            "options timeout:1 attempts:1\n"
        )
        with self.victim.hosts_file.open("a") as file:
            file.write("192.168.7.9 nas\n")
        self.inviter.shell("umask 077; wh genkey > sk")
        self.key = self.inviter.shell("wh pubkey < sk").stdout.strip()
        self.before = self.state()

    def state(self) -> list[str]:
        """What the victim has that others could want to change."""
        own = [path.name for path in self.victim.directory.iterdir() if path.name not in ("run", "state")]
        return [
            self.victim.ip("-o", "address").replace("forever", ""),
            self.victim.ip("route", "show", "table", "all"),
            self.victim.ip("-6", "route", "show", "table", "all"),
            self.victim.hosts_file.read_text(),
            *own,
        ]

    def invitation(self, subnet: str, own: str = "server", guest: str = "guest") -> str:
        """Of an inviter whose network has this subnet. It claims the first address that members get."""
        address = ip_network(subnet).network_address + (8 if subnet == "8.8.8.0/24" else 2)
        (self.inviter.directory / "config").write_text(
            f"name home\nsubnet {subnet}\ntrust {own} {address} {self.key} 192.0.2.1:4000\n"
        )
        self.inviter.run(["wh", "down", INTERFACE], check=False)
        self.inviter.run(["wh", "up", "config", "private-key", "sk", "interface", INTERFACE])
        return self.inviter.run(["wh", "invite", guest]).stdout.strip()

    def join(self, text: str, *words: str) -> subprocess.CompletedProcess[str]:
        files = ["config", "./config", "private-key", "./own.sk", "interface", INTERFACE]
        return self.victim.run(["wh", "join", text, *files, *words], check=False)

    def leave(self) -> None:
        self.victim.run(["wh", "down", INTERFACE], check=False)
        for name in ("config", "own.sk"):
            (self.victim.directory / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def made() -> Iterator[Scene]:
    with Lab("guile", log=print) as lab:
        yield Scene(lab)


@pytest.fixture
def scene(made: Scene) -> Iterator[Scene]:
    yield made
    made.leave()


def changed(text: str, **hints: object) -> str:
    """The same invitation with other hints, as far as this version has them."""
    invited = decode_untrusted(text)
    known = {name: value for name, value in hints.items() if name in Invitation.__dataclass_fields__}
    return encode(replace(invited, **known))


def assert_nothing_is_made(scene: Scene, answer: subprocess.CompletedProcess[str], code: str) -> None:
    assert answer.returncode == EXIT_BAD_INVITATION, answer.stdout + answer.stderr
    assert code in answer.stderr and "fix:" in answer.stderr
    scene.victim.directory.joinpath("own.sk").unlink(missing_ok=True)
    assert scene.state() == scene.before


SUBNETS = [
    ("8.8.8.0/24", "private"),
    ("192.168.7.128/25", "eth1"),
    ("fd12:3456:789a::/48", "eth1"),
    ("10.50.9.0/24", "10.50.0.0/16"),
    ("10.60.0.0/16", "10.60.0.0/16"),
    ("10.62.0.0/24", "10.62.0.9"),
    ("10.80.0.0/24", "10.80.0.53"),
    ("10.81.0.0/24", "10.81.0.53"),
    ("10.0.0.0/9", "larger"),
    ("128.0.0.0/1", "private"),
    ("100.100.100.0/24", "services"),
]
SLOW = [pytest.param(*each, marks=pytest.mark.slow) for each in SUBNETS[1:]]


@pytest.mark.parametrize(("subnet", "why"), [SUBNETS[0], *SLOW])
def test_a_subnet_that_this_host_does_not_take_makes_nothing(scene: Scene, subnet: str, why: str) -> None:
    """Neither where the invitation says it, nor where only the answer to the claim does, nor where the two
    differ. Who says it on the command line wants it."""
    text = scene.invitation(subnet)
    answer = scene.join(text)
    assert_nothing_is_made(scene, answer, "WH149")
    assert why in answer.stderr
    answer = scene.join(changed(text, subnet=None))
    assert_nothing_is_made(scene, answer, "WH149")
    assert why in answer.stderr
    text = scene.inviter.run(["wh", "invite", "second"]).stdout.strip()
    answer = scene.join(changed(text, subnet=ip_network("10.99.0.0/24")))
    assert_nothing_is_made(scene, answer, "WH148")


@pytest.mark.slow
def test_a_person_may_say_the_subnet(scene: Scene) -> None:
    text = scene.invitation("10.50.9.0/24")
    assert_nothing_is_made(scene, scene.join(text, "subnet", "10.50.8.0/24"), "WH149")
    assert scene.join(text, "subnet", "10.50.9.0/24").returncode == 0
    assert "10.50.9.3/24" in scene.victim.ip("-o", "address", "show", "dev", INTERFACE)


@pytest.mark.parametrize(
    ("own", "guest"),
    [("wpad", "nas"), pytest.param("ip6-localhost", "metadata", marks=pytest.mark.slow)],
)
def test_names_that_mean_something_are_not_taken(scene: Scene, own: str, guest: str) -> None:
    answer = scene.join(scene.invitation("10.0.42.0/24", own, guest))
    assert answer.returncode == 0, answer.stderr
    for name in (own, guest):
        assert not re.search(
            rf"(?m)^(?!192\.168\.7\.9|127|::1).*\b{name}\b", scene.victim.hosts_file.read_text()
        )
        assert f"the name {name} " in answer.stderr
        assert name not in Path(scene.victim.directory / "config").read_text()
    assert scene.victim.run(["ping", "-c1", "-W5", "10.0.42.2"]).returncode == 0


@pytest.mark.slow
def test_what_is_taken_is_shown_before_it_is_made(scene: Scene) -> None:
    answer = scene.join(scene.invitation("10.0.42.0/24"))
    assert answer.returncode == 0, answer.stderr
    told = answer.stdout.splitlines()
    assert told[:4] == [
        f"invitation to network home, subnet 10.0.42.0/24, from {scene.key}",
        "subnet 10.0.42.0/24",
        "name guest: 10.0.42.3",
        "name server: 10.0.42.2",
    ]
    assert told[4].startswith("interface wh0")


@pytest.mark.slow
def test_a_loopback_address_in_an_invitation_is_sent_to_by_nobody(scene: Scene) -> None:
    """Else a boot line there would make loopback addresses as good as others for the newcomer's node."""
    text = scene.invitation("10.0.42.0/24")
    key = decode_untrusted(text).server_key
    here = ((key, bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1]) + (9).to_bytes(2, "big")),)
    assert scene.join(changed(text, bootstraps=here)).returncode == 0
    assert "127.0.0.1" not in Path(scene.victim.directory / "config").read_text()


def test_work_without_end_is_refused_at_once(scene: Scene) -> None:
    """By `wh join` and by 0nc; the text is put together by hand, since this version writes none such."""
    import base64
    import hashlib

    plain = decode_untrusted(scene.invitation("10.0.42.0/24"))
    for flags, argv in ((0, ["wh", "join"]), (1, ["0nc"])):
        fixed = bytes([0x10 | flags]) + plain.server_key + (plain.seed or b"") + bytes(4)
        body = fixed + bytes([6, 1, 64])
        checksum = hashlib.blake2s(body, digest_size=4).digest()
        text = "wh2" + base64.b32encode(body + checksum).decode().rstrip("=").lower()
        answer = scene.victim.run(["timeout", "20", *argv, text], check=False)
        assert "WH149" in answer.stderr, answer.stderr
