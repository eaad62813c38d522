"""Invitations between real daemons: joined, used up, revoked, fought over, and refused."""

from __future__ import annotations

import subprocess

from labnet import Host
from pinging import answers_within
from tutorial import INTERFACE, Tutorial


def make_guest(tutorial: Tutorial, name: str = "guest", network: str = "net_a", last: int = 20) -> Host:
    """A host that no file knows yet, beside node_a."""
    guest = tutorial.lab.host(name)
    guest.attach(tutorial.networks[network], f"198.51.100.{last}/24")
    guest.default_route("198.51.100.1")
    return guest


def invite(host: Host, name: str, *words: str) -> str:
    return host.run(["wh", "invite", name, *words]).stdout.strip()


def join(guest: Host, invitation: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    files = ["config", "./config", "private-key", "./own.sk", "interface", INTERFACE]
    return guest.run(["wh", "join", invitation, *files, *words], check=check)


def test_who_is_invited_joins_with_one_word_and_is_reached_by_name(running: Tutorial) -> None:
    guest = make_guest(running)
    config = running.node_a.directory / "config"
    before = config.read_text()
    invitation = invite(running.node_a, "guest", "expires", "1h")
    answer = join(guest, invitation)
    words = answer.stdout.partition("check words: ")[2].split()[:3]
    assert len(words) == 3
    assert answers_within(guest, "node_a", 5)
    assert answers_within(running.node_a, "guest", 5)
    assert f"check words {' '.join(words)}" in running.node_a.run(["wh", "show", INTERFACE, "all"]).stdout
    (line,) = [line for line in config.read_text().splitlines() if "guest" in line]
    assert line.startswith("trust guest 10.0.42.4 ")
    assert config.read_text() == before + line + "\n"
    assert (guest.directory / "config").stat().st_mode & 0o777 == 0o600
    assert (guest.directory / "own.sk").stat().st_mode & 0o777 == 0o600
