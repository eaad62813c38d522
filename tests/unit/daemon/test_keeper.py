"""What others take is put back, ever later where they go on; told once."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import pytest

from wh.daemon.keeper import AT_ONCE, LEAVE_ALONE, LOOK_S, PAUSE_MAX_S, QUIET_S, TOLD_S, Keeper, Pacing
from wh.daemon.overlay import INTERFACE_PREFIX
from wh.errors import Code, SystemSetupError
from wh.net.links.interface import Restored


def test_what_happens_now_and_then_is_put_back_at_once() -> None:
    pacing = Pacing()
    assert [pacing.pause_after_loss(at) for at in range(10)] == [0.0] * 10
    assert {pacing.pause_after_loss(100.0 + 3 * at) for at in range(1000)} == {0.0}


def test_pauses_double_while_somebody_fights() -> None:
    pacing, now, pauses = Pacing(), 0.0, []
    while now < 4000:
        pauses.append(pacing.pause_after_loss(now))
        now += 0.1 + pauses[-1]
    assert pauses.count(0.0) <= AT_ONCE + 2
    fought = [pause for pause in pauses if pause]
    assert fought[:4] == [1.0, 2.0, 4.0, 8.0]
    assert fought[-1] == PAUSE_MAX_S
    assert pacing.pause_after_loss(now + 2 * PAUSE_MAX_S + QUIET_S) == 0.0, "they have given up"


class World:
    """One host, whose interface others may take things from."""

    def __init__(self, managers: tuple[str, ...] = ()) -> None:
        self.now = 0.0
        self.lost: list[tuple[str, ...]] = []
        self.error: SystemSetupError | None = None
        self.managers = managers
        self.asked = 0
        self.keeper = Keeper(self.restore, self.find_managers, lambda: self.now)

    async def restore(self) -> Restored:
        if self.error is not None:
            raise self.error
        return Restored("wh0", self.lost.pop(0) if self.lost else ())

    async def find_managers(self) -> list[str]:
        self.asked += 1
        return list(self.managers)

    async def look(self, *lost: str) -> float:
        if lost:
            self.lost.append(lost)
        pause_s = await self.keeper.look()
        for _ in range(3):
            await asyncio.sleep(0)  # who did it is asked beside everything else
        return pause_s


def test_a_loss_is_told_once_and_shown_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        world = World(("NetworkManager",))
        assert await world.look() == 0.0
        assert world.keeper.warnings() == ()
        for _ in range(5):
            await world.look("the address 10.0.42.2/24", "the route to 10.0.42.3/32")
            world.now += 10
        (warning,) = world.keeper.warnings()
        assert warning.code == Code.OVERLAY_CHANGED
        assert "10.0.42.2/24" in str(warning) and "5 times" in str(warning)
        assert "NetworkManager" in warning.hint and "nmcli device set wh0 managed no" in warning.hint
        assert world.asked == 1
        world.now += TOLD_S
        assert world.keeper.warnings() == ()
        await world.look("the MTU 1408")
        assert world.asked == 2

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert len(caplog.records) == 2


def test_an_unknown_opponent_is_one_to_look_for() -> None:
    async def scenario() -> None:
        world = World()
        await world.look("the MTU 1408")
        (warning,) = world.keeper.warnings()
        assert "ip monitor" in warning.hint

    asyncio.run(scenario())


def test_what_cannot_be_put_back_is_shown_until_it_can(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        world = World()
        world.error = SystemSetupError("cannot add the address", code=Code.NETWORK_SETUP)
        for _ in range(3):
            await world.look()
        assert world.keeper.warnings() == (world.error,)
        world.error = None
        await world.look()
        assert world.keeper.warnings() == ()

    asyncio.run(scenario())
    assert len(caplog.records) == 1


def test_a_look_comes_with_each_notice_and_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wh.daemon.keeper.LOOK_S", 0.05)
    looks = []

    async def scenario() -> None:
        world = World()

        async def restore() -> Restored:
            looks.append(world.now)
            return Restored("wh0")

        keeper = Keeper(restore, world.find_managers, lambda: world.now)
        running = asyncio.ensure_future(keeper.run())
        await asyncio.sleep(0.01)
        assert looks == []
        keeper.notice()
        await asyncio.sleep(0.01)
        assert len(looks) == 1
        async with asyncio.timeout(10):
            while len(looks) < 3:
                await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(scenario())
    assert LOOK_S == 60.0


def test_what_keeps_managers_away_is_shipped_and_names_our_interfaces() -> None:
    root = Path(__file__).parents[3]
    for hint in LEAVE_ALONE.values():
        (snippet,) = re.findall(r"share/\S+", hint)
        text = (root / snippet).read_text()
        assert f"{INTERFACE_PREFIX}*" in text
        assert snippet in (root / "docs" / "operations.md").read_text()
