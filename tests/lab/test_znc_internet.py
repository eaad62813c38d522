"""0nc across an internet of NATs, with public nodes to find each other by, as a user without privileges."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import flush_conntrack, kill
from internet import Internet, Site
from labnet import Lab, wait_until
from nodes import PORT, UNLIMITED_RELAYS, PublicNodes
from znc_ends import End

DELAY_S = 0.02
CONNECTED_LIMIT_S = 10.0
"""Loose: the machine may be busy. The goal is 3 s."""

SIZE = 60 << 20


class World:
    def __init__(self, lab: Lab, *kinds: str, delay_s: float = DELAY_S, publics: int = 3) -> None:
        """kinds: of both sites, or of each."""
        internet = Internet(lab, publics, delay_s=delay_s)
        self.publics = PublicNodes(internet)
        self.a, self.b = internet.site("a", kinds[0]), internet.site("b", kinds[-1])
        self.publics.up("listen-tcp 443", *UNLIMITED_RELAYS)

    @property
    def bootstraps(self) -> list[str]:
        places = zip(self.publics.nodes, self.publics.sites, strict=True)
        return [f"--bootstrap={node.key}@{site.public_ipv4}:{PORT}" for node, site in places]


@pytest.fixture
def world(lab: Lab, request: pytest.FixtureRequest) -> Iterator[World]:
    yield World(lab, request.param)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("world", ["port-restricted"], indirect=True)
def test_two_port_restricted_nats_are_punched(world: World):
    host = End(world.a.host, ["-v", *world.bootstraps], stdin=subprocess.PIPE)
    guest = End(world.b.host, ["-v", host.invitation()], stdin=subprocess.PIPE)
    connected = guest.event("connected")
    assert connected["seconds"] < CONNECTED_LIMIT_S
    host.process.stdin.write("over the NATs")  # type: ignore[union-attr]
    host.process.stdin.close()  # type: ignore[union-attr]
    guest.process.stdin.close()  # type: ignore[union-attr]
    assert (guest.wait(), host.wait()) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("udp-blocked", "port-restricted"), ("port-restricted", "udp-blocked")])
def test_the_side_whose_udp_is_blocked_is_reached_over_tcp(lab: Lab, data: Path, kinds: tuple[str, str]):
    world = World(lab, *kinds)
    copy = data.with_name("copy")
    with data.open("rb") as source, copy.open("wb") as sink:
        host = End(world.a.host, world.bootstraps, stdin=source.fileno())
        guest = End(world.b.host, [host.invitation()], stdout=sink.fileno())
        assert guest.event("connected")["seconds"] < 2 * CONNECTED_LIMIT_S
        assert (guest.wait(120), host.wait(120)) == (0, 0), guest.log.read_text()[-2000:]
    assert digest(copy) == digest(data)


@pytest.mark.parametrize("world", ["port-restricted", "random"], indirect=True)
def test_a_stream_survives_the_loss_of_relays_and_mappings(world: World, data: Path):
    copy = data.with_name("copy")
    with data.open("rb") as source, copy.open("wb") as sink:
        host = End(world.a.host, world.bootstraps, stdin=source.fileno())
        guest = End(world.b.host, ["--progress", host.invitation()], stdout=sink.fileno())
        guest.event("connected")
        wait_until(lambda: copy.stat().st_size > SIZE // 10, 60, "the stream has begun")
        kill(world.publics.nodes[0].host)
        wait_until(lambda: copy.stat().st_size > SIZE // 4, 60, "it goes on without a relay")
        for site in (world.a, world.b):
            forget_mappings(site)
        assert (guest.wait(120), host.wait(120)) == (0, 0), guest.log.read_text()[-2000:]
    assert digest(copy) == digest(data)


def forget_mappings(site: Site) -> None:
    for router in site.routers:
        flush_conntrack(router)


@pytest.mark.slow
def test_five_gigabytes_from_tar_to_tar(lab: Lab, tmp_path: Path):
    """Behind two NATs with one bootstrap node; a relay is killed and the mappings are flushed meanwhile."""
    world = World(lab, "port-restricted", delay_s=0.0, publics=2)
    block = os.urandom(1 << 20)
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    copy.mkdir()
    for number in range(5):
        with (tree / f"file{number}").open("wb") as file:
            for _ in range(1000):
                file.write(block)
    with subprocess.Popen(["tar", "c", "-C", str(tree), "."], stdout=subprocess.PIPE) as source:
        with subprocess.Popen(["tar", "x", "-C", str(copy)], stdin=subprocess.PIPE) as sink:
            assert source.stdout is not None and sink.stdin is not None
            host = End(world.a.host, world.bootstraps[:1], stdin=source.stdout.fileno())
            source.stdout.close()
            guest = End(world.b.host, [host.invitation()], stdout=sink.stdin.fileno())
            sink.stdin.close()
            guest.event("connected")
            wait_until(lambda: (copy / "file1").exists(), 300, "a fifth is there")
            kill(world.publics.nodes[0].host)
            wait_until(lambda: (copy / "file2").exists(), 300, "two fifths are there")
            for site in (world.a, world.b):
                forget_mappings(site)
            assert (guest.wait(900), host.wait(900)) == (0, 0), guest.log.read_text()[-2000:]
        assert sink.returncode == 0
    for number in range(5):
        assert digest(copy / f"file{number}") == digest(tree / f"file{number}")


@pytest.mark.slow
@pytest.mark.parametrize("world", ["port-restricted", "random"], indirect=True)
def test_a_pause_behind_nats_that_forget_is_survived(world: World, data: Path):
    """Mappings live for 30 s, sessions for 3 min: both ends find each other anew."""
    for site in (world.a, world.b):
        for router in site.routers:
            for name in ("udp_timeout", "udp_timeout_stream"):
                router.run(["sysctl", "-qw", f"net.netfilter.nf_conntrack_{name}=30"])
    copy = data.with_name("copy")
    with data.open("rb") as source, copy.open("wb") as sink:
        host = End(world.a.host, world.bootstraps, stdin=source.fileno())
        guest = End(world.b.host, [host.invitation()], stdout=sink.fileno())
        wait_until(lambda: copy.stat().st_size > SIZE // 10, 60, "the stream has begun")
        guest.process.send_signal(signal.SIGSTOP)
        time.sleep(200)  # what is tested is the time
        guest.process.send_signal(signal.SIGCONT)
        assert (guest.wait(120), host.wait(120)) == (0, 0), guest.log.read_text()[-2000:]
    assert digest(copy) == digest(data)


@pytest.mark.parametrize("world", ["random"], indirect=True)
def test_without_relays_nothing_is_relayed(world: World):
    """Between two random NATs there is no direct path."""
    host = End(world.a.host, ["--no-relay", *world.bootstraps], stdin=subprocess.PIPE)
    started = time.monotonic()
    guest = End(world.b.host, ["--no-relay", "-w", "8", host.invitation()], stdin=subprocess.PIPE)
    assert guest.wait() == 5
    assert time.monotonic() - started < 30
    host.process.kill()
