"""Invitations between real daemons: joined, used up, revoked, fought over, and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labnet import Host, wait_until
from pinging import RunningPing, answers_within
from tutorial import INTERFACE, Tutorial
from wh.trust.invitation import decode_untrusted, encode
from wh.wire.messages import AuthStatus

CLAIMANTS = Path(__file__).parent / "claimants.py"
EXIT_BAD_INVITATION = 6
LATER = ("written", "answered")
PING_NODE_A = ["wh", "ping", INTERFACE, "node_a", "count", "3", "json"]


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


def test_a_server_behind_a_nat_is_claimed_at_through_a_relay(running: Tutorial) -> None:
    """node_b invites; the NAT lets nobody in that it has not sent to, so the public node joins the two."""
    guest = make_guest(running)
    place = json.loads(join(guest, invite(running.node_b, "guest"), "json").stdout)["place"]
    assert place["endpoint"] is None
    assert answers_within(guest, "node_b", 10)


def test_nothing_shows_an_invitation_that_is_being_used(running: Tutorial) -> None:
    """Neither the arguments of wh join, while it waits for a server that is down, nor its daemon."""
    invitation = invite(running.node_a, "guest")
    running.down(running.node_a)
    guest = make_guest(running)
    process = guest.popen(
        ["wh", "join", invitation, "config", "./config", "interface", INTERFACE],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: guest.run(["wh", "show", "interfaces"]).stdout, 20, "the daemon waits")
    for pid in guest.pids():
        for name in ("cmdline", "environ"):
            assert invitation.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    process.send_signal(signal.SIGINT)


def test_an_invitation_is_used_once_but_who_used_it_may_again(running: Tutorial) -> None:
    invitation = invite(running.node_a, "guest")
    first, second = make_guest(running), make_guest(running, "late", last=21)
    join(first, invitation)
    refused = join(second, invitation, check=False)
    assert refused.returncode == EXIT_BAD_INVITATION
    assert "WH146" in refused.stderr
    first.run(["wh", "down", INTERFACE])
    (first.directory / "config").unlink()
    join(first, invitation)
    assert answers_within(first, "node_a", 5)


def test_the_key_file_of_an_alias_is_the_originals_way(running: Tutorial) -> None:
    """node_b, which node_a does not trust any more, claims an alias that was written by hand."""
    running.node_b.shell("umask 077; wh genkey > alias.sk")
    alias = running.node_b.shell("wh pubkey < alias.sk").stdout.strip()
    without_b = "".join(
        line for line in running.network_file().splitlines(True) if not line.startswith("trust node_b")
    )
    config = running.node_a.directory / "config"
    config.write_text(f"{without_b}alias back {alias} at node_a  # by hand\n")
    running.node_a.run(["wh", "reload", INTERFACE])
    running.node_b.run(["wh", "authenticate", INTERFACE, "node_a", "alias.sk"])
    back = config.read_text().splitlines()[-1]
    assert back == f"trust back 10.0.42.3 {running.keys['node_b']}  # by hand"
    assert answers_within(running.node_a, "back", 10)


def test_a_revoked_member_is_out_within_a_second(running: Tutorial) -> None:
    guest = make_guest(running)
    config = running.node_a.directory / "config"
    before = config.read_text()
    join(guest, invite(running.node_a, "guest"))
    ping = RunningPing(guest, "node_a", per_second=50)
    running.node_a.run(["wh", "revoke", "guest"])
    revoked_at = time.monotonic()
    answers = -1
    while ping.answers != answers:
        answers = ping.answers
        time.sleep(0.1)  # five pings' time
    assert time.monotonic() - revoked_at < 1.0
    assert config.read_text() == before
    assert "guest" not in running.node_a.hosts_file.read_text()
    wait_until(lambda: time.monotonic() - revoked_at > 3.0, 5, "it has had time to come back")
    assert ping.answers == answers
    again = guest.run(["wh", "reload", INTERFACE], check=False)
    assert again.returncode == 0
    assert not answers_within(guest, "node_a", 2)


def test_a_revoked_invitation_lets_nobody_in(running: Tutorial) -> None:
    invitation = invite(running.node_a, "guest")
    running.node_a.run(["wh", "revoke", "guest"])
    refused = join(make_guest(running), invitation, check=False)
    assert refused.returncode == EXIT_BAD_INVITATION
    assert "WH147" in refused.stderr


def test_an_expired_alias_lets_nobody_in(running: Tutorial) -> None:
    """The server's clock counts: a newcomer that does not look at the expiry hears it there."""
    invitation = invite(running.node_a, "guest", "expires", "1s")
    wait_until(lambda: time.time() > decode_untrusted(invitation).expiry, 3, "the invitation expires")
    guest = make_guest(running)
    refused = join(guest, invitation, check=False)
    assert (refused.returncode, "WH144" in refused.stderr) == (EXIT_BAD_INVITATION, True)
    timeless = encode(replace(decode_untrusted(invitation), expiry=0))
    refused = join(guest, timeless, check=False)
    assert (refused.returncode, "WH144" in refused.stderr) == (EXIT_BAD_INVITATION, True)


# Fights


class Claimants:
    """tests/lab/claimants.py on a host."""

    def __init__(self, host: Host, invitation: str, **order: Any) -> None:
        self._process = host.popen([sys.executable, CLAIMANTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"invitation": invitation, **order}) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ready\n"

    def report(self) -> dict[str, Any]:
        output, _ = self._process.communicate(timeout=60)
        report: dict[str, Any] = json.loads(output)
        return report


def winner_of(claimants: Claimants) -> str:
    """The one key that is in; all others heard that the alias is used."""
    results = claimants.report()["results"]
    winners = [key for key, status in results.items() if status == AuthStatus.OK]
    print(f"{len(results)} claimants: {Counter(map(str, results.values()))}")
    assert len(winners) == 1
    assert set(results.values()) == {AuthStatus.OK, AuthStatus.USED}
    return winners[0]


def test_of_a_hundred_claimants_one_is_in(running: Tutorial) -> None:
    guest = make_guest(running)
    claimants = Claimants(guest, invite(running.node_a, "guest"), count=100, deadline_s=40)
    winner = winner_of(claimants)
    text = (running.node_a.directory / "config").read_text()
    assert text.splitlines()[-1] == f"trust guest 10.0.42.4 {winner}"


@pytest.mark.parametrize("moment", ["noted", *(pytest.param(each, marks=pytest.mark.slow) for each in LATER)])
def test_of_a_hundred_claimants_one_is_in_though_the_server_is_killed(running: Tutorial, moment: str) -> None:
    """When the claim is noted in the log, when it is in the file, and shortly after."""
    host, config = running.node_a, running.node_a.directory / "config"
    pid = running.inspect(host)["pid"]
    state = host.directory / "state"
    invitation = invite(host, "guest")
    claimants = Claimants(make_guest(running), invitation, count=100, deadline_s=50)
    has_happened = {
        "noted": lambda: any(state.glob("*/claims")),
        "written": lambda: "trust guest" in config.read_text(),
        "answered": lambda: "trust guest" in config.read_text(),
    }[moment]
    while not has_happened():
        assert Path(f"/proc/{pid}").exists()
    if moment == "answered":
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not host.run(["wh", "show", "interfaces"]).stdout, 10, "the daemon is dead")
    after_the_crash = config.read_text().splitlines()[-1]
    print(f"killed when {moment}: the file says {after_the_crash}")
    running.up(host)
    winner = winner_of(claimants)
    assert config.read_text().splitlines()[-1] == f"trust guest 10.0.42.4 {winner}"
    if after_the_crash.startswith("trust"):
        assert after_the_crash.endswith(winner)


def test_a_thousand_wrong_claims_a_second_keep_nobody_out(running: Tutorial) -> None:
    host = running.node_a
    pid = running.inspect(host)["pid"]
    invitation = invite(host, "guest")
    attacker, guest = make_guest(running, "attacker"), running.lab.host("guest")
    guest.attach(running.networks["net_lan"], "192.168.77.20/24")
    guest.default_route("192.168.77.1")
    attack = Claimants(attacker, invitation, wrong=4, seconds=8, per_second=1000)
    began, used = time.monotonic(), processor_seconds(pid)
    pings = [json.loads(line) for line in running.node_b.run(PING_NODE_A).stdout.splitlines()]
    join(guest, invitation)
    share = (processor_seconds(pid) - used) / (time.monotonic() - began)
    report = attack.report()
    print(f"{report['sent']} wrong claims; {share:.0%} of a core; control pings {pings}")
    assert report["sent"] >= 7000
    assert report["ok"] == 0
    assert len(pings) == 3
    assert max(ping["rtt_ms"] for ping in pings) < 1000
    assert answers_within(guest, "node_a", 5)
    assert share < 0.6


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_what_can_be_checked_is_checked_before_the_claim_and_a_join_can_be_finished(
    running: Tutorial,
) -> None:
    """The interface's name is another program's; then, after a claim, so is its place in the file system."""
    guest = make_guest(running)
    invitation = invite(running.node_a, "guest")
    config = running.node_a.directory / "config"
    guest.ip("link", "add", INTERFACE, "type", "veth", "peer", "name", "other")
    refused = join(guest, invitation, check=False)
    assert "WH211" in refused.stderr
    assert "alias guest" in config.read_text()
    assert not (guest.directory / "own.sk").exists()
    guest.ip("link", "delete", INTERFACE)
    join(guest, invitation)
    guest.run(["wh", "down", INTERFACE])
    finished = join(guest, invitation)  # as after a failure behind the claim
    assert "its network file is there already" in finished.stdout
    assert answers_within(guest, "node_a", 5)


def test_a_join_that_is_ended_leaves_no_daemon(running: Tutorial) -> None:
    guest = make_guest(running)
    invitation = invite(running.node_a, "guest")
    running.down(running.node_a)
    process = guest.popen(["wh", "join", invitation, "config", "./config", "interface", INTERFACE])
    wait_until(lambda: guest.run(["wh", "show", "interfaces"]).stdout, 20, "the daemon waits")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    wait_until(lambda: not guest.pids(), 10, "no process stays")
