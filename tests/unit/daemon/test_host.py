"""Carrying out plans, on a host of sets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest
from fake_datapath import FakeDatapath

from wh.config.parser import parse
from wh.daemon.authority import own_hands
from wh.daemon.host import Host
from wh.daemon.overlay import OverlayPlan, plan_overlay
from wh.errors import Code, SystemSetupError
from wh.helper.client import Helper
from wh.helper.requests import Charge
from wh.ipc.paths import run_dir
from wh.naming.table import NameEntry
from wh.net.links.interface import Wanted, Warnings
from wh.net.links.namespaces import Links
from whcore.datapath import Datapath
from whcore.keys import SecretKey, encode_key

OWN, B, C = (SecretKey.generate().public_key for _ in range(3))
HOSTS = "127.0.0.1\tlocalhost\n"


class FakeLinks:
    """An interface as the kernel would hold it."""

    def __init__(self) -> None:
        self.addresses: set[str] = set()
        self.routes: set[str] = set()
        self.refusing = False
        self.warnings: Warnings = (SystemSetupError("something else"),)

    async def setup(self, wanted: Wanted) -> Warnings:
        return await self.update(wanted)

    async def update(self, wanted: Wanted) -> Warnings:
        if self.refusing:
            raise SystemSetupError("no")
        self.addresses, self.routes = set(map(str, wanted.addresses)), set(map(str, wanted.routes))
        return self.warnings


class World:
    def __init__(self, directory: Path, *, has_interface: bool = True) -> None:
        self.hosts_file = directory / "hosts"
        self.hosts_file.write_text(HOSTS)
        self.datapath, self.links = FakeDatapath(), FakeLinks()
        self.inside: list[bool] = []
        self.host = Host(
            cast(Datapath, self.datapath),
            cast(Links, self.links),
            has_interface=has_interface,
            names=self if has_interface else None,
            inside_changed=lambda ipv6: self.inside.append(ipv6),
        )

    async def write_names(self, entries: Iterable[NameEntry]) -> list[str]:
        """What the daemon asks its helper for."""
        return await self._hands(entries).write_names(entries)

    async def remove_names(self) -> None:
        await self._hands(()).remove_names()

    def _hands(self, entries: Iterable[NameEntry]) -> Helper:
        """With a network file that has these names."""
        lines = [f"trust {entry.hostname} {entry.addresses[0]} {encode_key(entry.key)}" for entry in entries]
        network = parse("\n".join(["subnet 10.0.42.0/24", *lines]))
        return own_hands(Charge("wh0", run_dir(), str(self.hosts_file), None), network)

    def set_up(self, plan: OverlayPlan) -> list[str]:
        return asyncio.run(self.host.set_up(plan))

    def change(self, plan: OverlayPlan) -> list[str]:
        return asyncio.run(self.host.change(plan))

    @property
    def peers(self) -> dict[bytes, set[tuple[bytes, int]]]:
        return self.datapath.allowed_ips


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("WH_RUNDIR", str(tmp_path / "run"))
    return World(tmp_path)


def plan(**names: bytes) -> OverlayPlan:
    lines = [f"trust {name} {encode_key(key)}" for name, key in names.items()]
    return plan_overlay(parse("\n".join(["subnet 10.0.42.0/24", *lines])), OWN)


def test_a_plan_is_carried_out_everywhere_and_warnings_come_back(world: World) -> None:
    assert world.set_up(plan(me=OWN, b=B)) == ["something else [WH217]"]
    assert "10.0.42.2/24" in world.links.addresses
    assert set(world.peers) == {B}
    assert (bytes([10, 0, 42, 3]), 32) in world.peers[B]
    assert "10.0.42.3\tb" in world.hosts_file.read_text()


def test_a_change_touches_only_what_differs(world: World) -> None:
    world.set_up(plan(me=OWN, b=B))
    kept = world.peers[B]
    world.change(plan(me=OWN, b=B, c=C))
    assert set(world.peers) == {B, C}
    assert world.peers[B] is kept
    world.change(plan(me=OWN, c=C))
    assert set(world.peers) == {C}
    assert {address for address, length in world.peers[C] if length == 32} == {bytes([10, 0, 42, 3])}
    assert "\tb\t" not in world.hosts_file.read_text()


def test_names_of_those_without_ipv6_have_ipv4_alone_until_they_have_it(world: World) -> None:
    wanted = plan(me=OWN, b=B)
    world.set_up(wanted)
    both = world.hosts_file.read_text()
    asyncio.run(world.host.leave_out_ipv6(frozenset({B})))
    lines = [line.split() for line in world.hosts_file.read_text().splitlines()]
    assert [words[0] for words in lines if words[1] == "b"] == ["10.0.42.3"]
    assert [words[0] for words in lines if words[1] == "me"] != ["10.0.42.2"]
    asyncio.run(world.host.leave_out_ipv6(frozenset()))
    assert world.hosts_file.read_text() == both


def test_whether_there_is_ipv6_inside_is_told_when_it_changes(world: World) -> None:
    lacking = SystemSetupError("no IPv6", code=Code.NO_IPV6)
    for warnings in ((), (lacking,), (lacking,), ()):
        world.links.warnings = warnings
        world.change(plan(me=OWN, b=B))
        assert world.datapath.inner_ipv6 == (not warnings)
    assert world.inside == [False, True]


def test_the_network_file_counts_more_than_a_peer_made_by_hand(world: World) -> None:
    world.set_up(plan(me=OWN, b=B))
    world.datapath.add_peer(C)
    world.change(plan(me=OWN, b=B))
    assert set(world.peers) == {B, C}, "which stays while the file does not name it"
    world.change(plan(me=OWN, b=B, c=C))
    assert (bytes([10, 0, 42, 4]), 32) in world.peers[C]
    assert set(world.host.members()) == {B, C}


def test_a_change_that_the_system_refuses_changes_nothing(world: World) -> None:
    world.set_up(plan(me=OWN, b=B))
    names = world.hosts_file.read_text()
    world.links.refusing = True
    with pytest.raises(SystemSetupError):
        world.change(plan(me=OWN, c=C))
    assert set(world.peers) == {B}
    assert world.hosts_file.read_text() == names


def test_removing_names_leaves_the_hosts_file_as_it_was(world: World) -> None:
    world.set_up(plan(me=OWN, b=B))
    asyncio.run(world.host.remove_names())
    assert world.hosts_file.read_text() == HOSTS


def test_names_of_a_daemon_that_was_killed_are_removed(world: World) -> None:
    with world.hosts_file.open("a") as file:
        file.write("10.9.9.9\told\t# wirehub wh-dead\n")
    world.set_up(plan(me=OWN, b=B))
    assert "wh-dead" not in world.hosts_file.read_text()


def test_a_name_that_the_file_gives_elsewhere_is_a_warning(world: World) -> None:
    world.hosts_file.write_text("192.0.2.1 b\n")
    (_, warning) = world.set_up(plan(me=OWN, b=B))
    assert "gives b the address 192.0.2.1" in warning


def test_a_hosts_file_that_cannot_be_written_is_a_warning(world: World) -> None:
    world.hosts_file.unlink()
    world.hosts_file.mkdir()
    assert len(world.set_up(plan(me=OWN, b=B))) == 2
    assert set(world.peers) == {B}


def test_a_node_without_interface_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WH_RUNDIR", str(tmp_path / "run"))
    world = World(tmp_path, has_interface=False)
    world.set_up(plan_overlay(parse("name net"), OWN))
    assert (world.links.addresses, world.peers, world.hosts_file.read_text()) == (set(), {}, HOSTS)
