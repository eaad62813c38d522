"""An interface without root: `wh up ... isolated`, and how programs get there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from labnet import Lab, wait_until
from znc_ends import NOBODY, as_nobody

INTERFACE = "wh0"


class Pair:
    """a: isolated, of a user without privileges. b: an ordinary member, root's."""

    def __init__(self, lab: Lab) -> None:
        lab.directory.chmod(0o711)  # what lets the user in without leave ends inside
        network = lab.network("lan")
        self.a, self.b = lab.host("a"), lab.host("b")
        self.a.attach(network, "192.0.2.1/24")
        self.b.attach(network, "192.0.2.2/24")
        keys = {}
        for host in (self.a, self.b):
            host.shell("umask 077; wh genkey > sk")
            keys[host.name] = host.shell("wh pubkey < sk").stdout.strip()
        for host in (self.a, self.b):
            (host.directory / "config").write_text(
                "name lan\nsubnet 10.0.42.0/24\n"
                f"trust node_a {keys['a']} 192.0.2.1:4000\ntrust node_b {keys['b']} 192.0.2.2:4000\n"
            )
        for path in (self.a.directory, *self.a.directory.iterdir()):
            as_nobody(self.a, path)
        self.a.run([*NOBODY, "wh", "up", "config", "private-key", "sk", "interface", INTERFACE, "isolated"])
        self.b.run(["wh", "up", "config", "private-key", "sk", "interface", INTERFACE])

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.a.run([*NOBODY, "wh", "run", INTERFACE, "--", *command], check=False)


@pytest.fixture
def pair(lab: Lab) -> Iterator[Pair]:
    yield Pair(lab)


def test_a_command_inside_sees_the_overlay_and_nothing_else(pair: Pair):
    for family, name in (("-4", "10.0.42.3"), ("-6", "2001:2")):
        answer = pair.inside("ping", family, "-c2", "-W5", "node_b")
        assert answer.returncode == 0, answer.stderr + pair.a.logs()
        assert name in answer.stdout
    assert "eth0" not in pair.inside("ip", "-o", "link").stdout
    assert INTERFACE not in pair.a.ip("-o", "link")
    assert pair.inside("ping", "-c1", "-W1", "192.0.2.2").returncode != 0
    assert pair.inside("sh", "-c", "exit 7").returncode == 7
    assert pair.inside("no-such-program").returncode == 127
    assert pair.inside("/etc").returncode == 126
    endless = f"wh run {INTERFACE} -- bash -c 'while :; do echo x; done' | head -1; echo ${{PIPESTATUS[0]}}"
    ran = pair.a.run([*NOBODY, "timeout", "20", "bash", "-c", endless])
    assert ran.stdout == "x\n141\n", "a command dies of a pipe that nobody reads"
    assert pair.inside("id", "-u").stdout == "65534\n"


def test_the_ordinary_member_reaches_the_isolated_one(pair: Pair):
    assert pair.b.run(["ping", "-c2", "-W5", "node_a"]).returncode == 0
    assert "node_a" not in pair.a.hosts_file.read_text()


def test_root_may_go_inside_too_but_no_other_user(pair: Pair):
    assert pair.a.run(["wh", "run", INTERFACE, "--", "ping", "-c1", "-W5", "node_b"]).returncode == 0
    other = [word.replace("65534", "65533") for word in NOBODY]
    refused = pair.a.run([*other, "wh", "run", INTERFACE, "--", "true"], check=False)
    assert refused.returncode == 4, refused.stderr


def test_down_leaves_nothing(pair: Pair):
    pair.a.run([*NOBODY, "wh", "down", INTERFACE])
    wait_until(lambda: not pair.a.pids(), 10, "daemon and helper have ended")


def test_on_an_ordinary_interface_a_command_runs_on_the_host(pair: Pair):
    assert "eth0" in pair.b.run(["wh", "run", INTERFACE, "--", "ip", "-o", "link"]).stdout
