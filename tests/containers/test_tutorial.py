"""The README's tutorial between two containers, and what a first process owes to its container."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from container_engine import FULL, MINIMAL, PATIENCE_S, SANDBOX, Container, Engine, wait_until
from container_networks import PORT, Tutorial, mounted

ORPHANS = "for i in 1 2 3 4 5; do sh -c 'sleep 0.1 &'; done"


class Pair:
    def __init__(self, engine: Engine) -> None:
        self.tutorial = Tutorial(engine, "node-a", "node-b")
        started = time.monotonic()
        self.a = self.tutorial.start("node-a", image=SANDBOX)
        self.a.wait_until_healthy()
        print(f"start to joined: {time.monotonic() - started:.1f} s")
        self.b = self.tutorial.start("node-b", image=SANDBOX)
        self.b.wait_until_healthy()


@pytest.fixture(scope="module")
def pair(engine: Engine) -> Iterator[Pair]:
    yield Pair(engine)


def ping(container: Container, name: str, family: str = "-4") -> None:
    """Answered within the patience: the first try may be before both know each other."""
    answer = container.execute("ping", family, "-c", "1", "-w", str(int(PATIENCE_S) // 2), name, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr + container.logs()


def test_both_ping_each_other_by_name(pair: Pair) -> None:
    for container, other in ((pair.a, "node-b"), (pair.b, "node-a")):
        for family in ("-4", "-6"):
            ping(container, other, family)


def test_the_start_says_what_the_container_may_do(pair: Pair) -> None:
    said = pair.a.logs()
    assert "NET_ADMIN: yes, /dev/net/tun: yes; the interface is the container's own" in said
    assert f"key {pair.tutorial.keys['node-a']}, kept in /var/lib/wirehub/node/key" in said
    assert "interface wh0 is up, UDP port" in said
    assert "a public node: no privilege is needed" in pair.tutorial.public.logs()


def test_logs_are_on_standard_output(pair: Pair) -> None:
    assert pair.a.engine("logs", pair.a.name).stderr == ""


def test_the_health_check_of_the_image_says_healthy(engine: Engine, pair: Pair) -> None:
    """Run by hand: a timer of systemd does it where there is one."""
    public = pair.tutorial.public
    assert engine("healthcheck", "run", public.name, check=False).returncode == 0
    assert public.health().place == "none"
    told = pair.a.health()
    assert (told.healthy, told.place, told.members, told.servers) == (True, "host", 1, 1)


def test_orphans_do_not_stay_as_zombies(pair: Pair) -> None:
    pair.a.execute("sh", "-c", ORPHANS)
    wait_until(lambda: not pair.a.zombies(), "no zombies")
    assert pair.a.state()["Pid"] and pair.a.execute("cat", "/proc/1/comm").stdout != "sh\n"


def test_a_restart_keeps_key_port_and_address(pair: Pair) -> None:
    before = pair.a.inspect()
    pair.a.engine("restart", "--time", "10", pair.a.name)
    pair.a.wait_until_healthy()
    after = pair.a.inspect()
    for what in ("public_key", "listen_port", "address", "orchid"):
        assert before[what] == after[what], what
    ping(pair.b, "node-a")


def test_a_killed_container_comes_back(pair: Pair) -> None:
    """With the names that it left in /etc/hosts, and its socket."""
    port = pair.b.inspect()["listen_port"]
    pair.b.engine("kill", "--signal", "KILL", pair.b.name)
    assert pair.b.exit_code() == 137
    pair.b.engine("start", pair.b.name)
    pair.b.wait_until_healthy()
    assert pair.b.inspect()["listen_port"] == port
    ping(pair.b, "node-a")


def test_a_container_that_was_paused_goes_on(pair: Pair) -> None:
    pair.a.engine("pause", pair.a.name)
    time.sleep(60)  # what is tested is this time
    pair.a.engine("unpause", pair.a.name)
    pair.a.wait_until_healthy()
    ping(pair.b, "node-a")
    ping(pair.a, "node-b")


def test_stop_and_interrupt_end_it_cleanly(pair: Pair) -> None:
    assert pair.a.stop() == 0
    assert "stopping" in pair.a.logs()
    pair.b.engine("kill", "--signal", "INT", pair.b.name)
    assert pair.b.exit_code() == 0


def test_a_stop_at_any_moment_of_the_start_is_heard(engine: Engine, pair: Pair) -> None:
    """Also by a process that has no handler yet: none waits for SIGKILL."""
    options = ["--network", pair.tutorial.network, *FULL]
    options += mounted(pair.tutorial.config, pair.tutorial.volumes["node-a"])
    for milliseconds in (0, 20, 50, 100, 200, 400, 800):
        container = engine.start(MINIMAL, options, "wh-node")
        time.sleep(milliseconds / 1000)
        engine("kill", "--signal", "TERM", container.name)
        code = container.exit_code(20)
        assert code in (0, 143), (milliseconds, code, container.logs())


def test_without_public_node_it_says_so(engine: Engine, pair: Pair) -> None:
    pair.tutorial.public.stop()
    lonely = pair.tutorial.start("node-a")
    wait_until(lambda: lonely.execute("wh", "health", check=False).returncode == 1, "unhealthy")
    told = lonely.execute("wh", "health", check=False).stdout
    assert "no public node answers" in told and f"{PORT}" not in lonely.logs().split("is up")[0]
    assert engine("healthcheck", "run", lonely.name, check=False).returncode == 1


def test_two_containers_find_each_other_without_a_public_node(engine: Engine) -> None:
    """The README's quick start."""
    network, names = engine.network(), ("node-a", "node-b")
    volumes = {name: engine.volume() for name in names}
    lines = ["name tutorial", "subnet 10.0.42.0/24", *(f"trust {n} {engine.key(volumes[n])}" for n in names)]
    config = engine.file("config", "\n".join(lines) + "\n")
    a, b = (
        engine.start(SANDBOX, ["--network", network, *FULL, *mounted(config, volumes[n])], "wh-node", "lan")
        for n in names
    )
    a.wait_until_healthy()
    b.wait_until_healthy()
    ping(a, "node-b")
    ping(b, "node-a")
    told = a.execute("wh", "health").stdout
    assert told == "healthy: interface wh0, 0 public nodes known, 1 member, 1 direct, 0 relayed\n"
