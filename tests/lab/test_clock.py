"""A machine whose clock was once ahead: what it said then must not keep it out once the clock is right."""

from __future__ import annotations

import subprocess
from pathlib import Path

from labnet import Host, Lab
from pinging import answers_within

ADDRESSES = {"node_a": "192.0.2.1", "node_b": "192.0.2.2"}
PORT = 62096
AHEAD_S = 30 * 86400

SHIFTED_CLOCK = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now)
{
    long failed = syscall(SYS_clock_gettime, id, now);
    const char *shift = getenv("CLOCK_AHEAD_S");

    if (!failed && id == CLOCK_REALTIME && shift)
        now->tv_sec += atol(shift);
    return (int)failed;
}
"""


def shifted_clock(directory: Path) -> Path:
    """A library that shifts the wall clock of whoever is started with it."""
    source, library = directory / "clock.c", directory / "clock.so"
    source.write_text(SHIFTED_CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


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
    library = shifted_clock(lab.host("workshop").directory)
    hosts = nodes(lab)
    a, b = hosts["node_a"], hosts["node_b"]
    up(b)
    up(a, LD_PRELOAD=str(library), CLOCK_AHEAD_S=str(AHEAD_S))
    assert answers_within(a, "node_b", 10)
    a.run(["wh", "down", "wh0"])

    up(a)
    assert answers_within(a, "node_b", 10)
    a.run(["wh", "down", "wh0"])
    up(a)  # and what it said since is remembered too
    assert answers_within(a, "node_b", 10)
