"""What can be wrong on a user's machine: a clear error or warning, no traceback, no half-made interface."""

from __future__ import annotations

import os
import subprocess

import pytest

from labnet import Host, wait_until
from tutorial import INTERFACE, PORT, Tutorial

HOLD_PORT = f"""
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("", {PORT}))
print("held", flush=True)
sys.stdin.read()
"""
READ_ONLY = "-all,+dac_read_search"
NOBODY = [
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *(f"--inh-caps={READ_ONLY}", f"--ambient-caps={READ_ONLY}"),
]
"""A user without privileges, who can yet run what stands in a closed home directory."""


def up(host: Host, *more: str, prefix: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    argv = ["wh", "up", "./config", "private-key", "./node_a.sk", "interface", INTERFACE, *more]
    return host.run([*(prefix or []), *argv], check=False)


def devices(host: Host) -> set[str]:
    return {line.split()[1].rstrip(":") for line in host.ip("-o", "link", "show").splitlines()}


def assert_refused(
    host: Host, answer: subprocess.CompletedProcess[str], code: str, devices_before: set[str]
) -> None:
    assert answer.returncode != 0
    assert code in answer.stderr
    assert "Traceback" not in answer.stderr
    assert devices(host) == devices_before
    wait_until(lambda: not host.pids(), 5, "no process stays after a refusal")
    assert "node_b" not in host.hosts_file.read_text()


@pytest.fixture
def host(tutorial: Tutorial) -> Host:
    return tutorial.node_a


def test_interface_that_another_program_made_is_refused_and_kept(host: Host) -> None:
    host.ip("link", "add", INTERFACE, "type", "veth", "peer", "name", "other")
    before = devices(host)
    assert_refused(host, up(host), "WH211", before)


def test_port_in_use_is_refused(host: Host) -> None:
    holder = host.popen(["python3", "-c", HOLD_PORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    before = devices(host)
    answer = up(host, "listen-port", str(PORT))
    holder.communicate()
    assert_refused(host, answer, "WH214", before)


def test_user_without_permission_is_told_so(host: Host) -> None:
    host.directory.parent.chmod(0o755)
    for path in (host.directory, host.directory / "config", host.directory / "node_a.sk"):
        path.chmod(0o755)
    for folder in ("run", "state"):
        os.chown(host.directory / folder, 65534, 65534)
    before = devices(host)
    answer = up(host, prefix=NOBODY)
    assert "permission" in answer.stderr.lower() or "root" in answer.stderr
    assert_refused(host, answer, "WH21", before)


def test_second_daemon_on_one_interface_is_refused_and_the_first_lives(
    tutorial: Tutorial, host: Host
) -> None:
    assert up(host).returncode == 0
    first = tutorial.inspect(host)["pid"]
    processes = host.pids()  # the daemon, and its helper
    assert first in processes
    answer = up(host, "listen-port", "7777")
    assert answer.returncode != 0
    assert "WH222" in answer.stderr
    assert tutorial.inspect(host)["pid"] == first
    assert host.pids() == processes
    assert "node_b" in host.hosts_file.read_text()


def test_missing_key_file_is_refused(host: Host) -> None:
    (host.directory / "node_a.sk").unlink()
    assert_refused(host, up(host), "WH215", devices(host))


@pytest.mark.parametrize("text", ["", "no key here\n", "A" * 42 + "\n", "A" * 200])
def test_key_file_without_a_key_is_refused_and_not_shown(host: Host, text: str) -> None:
    (host.directory / "node_a.sk").write_text(text)
    answer = up(host)
    assert_refused(host, answer, "WH101", devices(host))
    assert len(text) < 9 or text.strip() not in answer.stderr


def test_world_readable_key_file_is_warned_about(host: Host) -> None:
    (host.directory / "node_a.sk").chmod(0o644)
    answer = up(host)
    assert answer.returncode == 0
    assert "WH216" in answer.stderr or "readable" in answer.stderr


def test_broken_network_file_is_refused_with_every_line(host: Host) -> None:
    (host.directory / "config").write_text("subnet 10.0.42.0/24\nnonsense\ntrust node_a too-short\n")
    answer = up(host)
    assert "config:2:1" in answer.stderr
    assert "config:3:" in answer.stderr
    assert_refused(host, answer, "WH112", devices(host))
