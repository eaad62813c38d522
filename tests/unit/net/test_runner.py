"""The runner between a data plane without packets and an engine that does what the test says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from fake_datapath import FakeDatapath

from wh.engine.commands import (
    CloseRelay,
    Command,
    Knock,
    MoveRelay,
    Notify,
    OpenRelay,
    PathMode,
    ResolveName,
    Route,
    Send,
    SetDataPaths,
    SetRelayLimits,
)
from wh.engine.events import (
    DataOnNewPath,
    DataSession,
    DataTraffic,
    Event,
    ForgetRequested,
    Instant,
    Key,
    KnockReceived,
    NameResolved,
    Path,
    PathWanted,
    PingRequested,
    RelayEnded,
    RelayOpened,
    RequestCancelled,
    SendFailed,
    Stopping,
)
from wh.net import runner as runner_module
from wh.net.control import ControlChannel
from wh.net.execution import Callbacks
from wh.net.punch_sockets import PunchSockets
from wh.net.runner import Runner
from wh.net.tcp.bridge import TcpBridge
from wh.wire.address import pack
from wh.wire.messages import Leaving, Ping
from whcore import datapath as core
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey

PEER: Key = SecretKey.generate().public_key
REMOTE = pack("192.0.2.9", 4000)
PATH = Path(0, REMOTE)
NONCE = bytes(8)
PATIENCE_S = 5.0


class ScriptedEngine:
    """Keeps the events; `react` says what to answer."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ticks: list[Instant] = []
        self.deadline: float | None = None
        self.react: Callable[[Event], list[Command]] = lambda event: []
        self.react_to_time: Callable[[], list[Command]] = list
        self.happened = asyncio.Event()

    def handle(self, event: Event, now: Instant) -> list[Command]:
        self.events.append(event)
        self.happened.set()
        return self.react(event)

    def tick(self, now: Instant) -> list[Command]:
        self.ticks.append(now)
        self.happened.set()
        return self.react_to_time()

    def twins(self) -> frozenset[bytes]:
        return frozenset()

    def without_ipv6(self) -> frozenset[bytes]:
        return frozenset()

    def next_deadline(self) -> float | None:
        return self.deadline

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.happened.clear()
                await self.happened.wait()


class Bench:
    """A runner with everything around it."""

    def __init__(self) -> None:
        self.engine = ScriptedEngine()
        self.datapath = FakeDatapath()
        sessions = ControlSessions(SecretKey.generate(), b"public")
        self.channel = ControlChannel(
            sessions,
            lambda path, datagram, *_: self.datapath.send_control(path.socket, path.remote, datagram),
            lambda: Ping(0, 0, 0, NONCE),
        )
        self.tun_gone = 0
        self.woke = 0
        datapath = cast(core.Datapath, self.datapath)
        self.runner = Runner(
            self.engine,
            datapath,
            self.channel,
            PunchSockets(),
            TcpBridge(datapath),
            Callbacks(self._on_tun_gone, self._on_woke),
        )

    def _on_woke(self) -> None:
        self.woke += 1
        self.engine.happened.set()

    def _on_tun_gone(self) -> None:
        self.tun_gone += 1
        self.engine.happened.set()


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    made.runner.start()
    try:
        yield made
    finally:
        await made.runner.stop()
        made.datapath.close()


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def in_loop() -> None:
        async with bench() as made:
            await test(made)

    asyncio.run(in_loop())


def test_a_control_datagram_reaches_the_engine_as_an_event() -> None:
    async def test(it: Bench) -> None:
        it.datapath.put_control(0, REMOTE, b"\xff\x02\x06\x00" + NONCE)
        await it.engine.wait_for(lambda: it.engine.events == [KnockReceived(REMOTE, NONCE)])

    run(test)


def test_a_flood_does_not_starve_the_loop() -> None:
    async def test(it: Bench) -> None:
        for _ in range(10 * runner_module.CONTROL_BATCH):
            it.datapath.put_control(0, REMOTE, b"\xff\x02\x06\x00" + NONCE)
        await it.engine.wait_for(lambda: bool(it.engine.events))
        assert len(it.engine.events) == runner_module.CONTROL_BATCH
        await it.engine.wait_for(lambda: len(it.engine.events) == 10 * runner_module.CONTROL_BATCH)

    run(test)


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        ((core.EVENT_PATH_WANTED, PEER), PathWanted(PEER)),
        ((core.EVENT_NEW_PATH, PEER, 1, REMOTE, 0), DataOnNewPath(PEER, Path(1, REMOTE))),
        ((core.EVENT_HANDSHAKE, PEER), DataSession(PEER, up=True)),
        ((core.EVENT_HANDSHAKE_FAILED, PEER), DataSession(PEER, up=False)),
    ],
)
def test_events_of_the_data_plane_reach_the_engine(raw: tuple[object, ...], event: Event) -> None:
    async def test(it: Bench) -> None:
        it.datapath.put_event(*raw)
        await it.engine.wait_for(lambda: it.engine.events == [event])

    run(test)


def test_a_deleted_interface_is_told_to_the_daemon() -> None:
    async def test(it: Bench) -> None:
        it.datapath.put_event(core.EVENT_TUN_GONE)
        await it.engine.wait_for(lambda: it.tun_gone == 1)

    run(test)


def test_what_cannot_be_sent_comes_back_to_the_engine() -> None:
    message = Leaving()

    async def test(it: Bench) -> None:
        it.engine.react = lambda event: [Send(PEER, PATH, message)] if isinstance(event, Stopping) else []
        it.runner.dispatch(Stopping())
        assert it.engine.events == [Stopping(), SendFailed(PEER, PATH, message)]

    run(test)


def test_an_engine_that_never_rests_is_stopped_and_counted() -> None:
    async def test(it: Bench) -> None:
        it.engine.react = lambda event: [Send(PEER, PATH, Leaving())]
        it.runner.dispatch(Stopping())
        assert len(it.engine.events) == runner_module.EVENTS_PER_DISPATCH_MAX
        assert it.runner.counters()["engine_failures"] == 1

    run(test)


def test_an_error_of_the_engine_is_logged_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> list[Command]:
        raise RuntimeError("a bug")

    async def test(it: Bench) -> None:
        it.engine.react = fail
        it.runner.dispatch(Stopping(), Stopping())
        it.engine.react = lambda event: []
        it.runner.dispatch(PathWanted(PEER))
        assert it.engine.events[-1] == PathWanted(PEER)
        assert it.runner.counters()["engine_failures"] == 2

    with caplog.at_level(logging.ERROR):
        run(test)
    assert caplog.text.count("RuntimeError: a bug") == 1


def test_the_engine_is_called_at_its_deadline_and_not_before() -> None:
    async def test(it: Bench) -> None:
        due = runner_module.read_clocks().monotonic + 0.02
        it.engine.deadline = due

        def satisfied() -> list[Command]:
            it.engine.deadline = None
            return []

        it.engine.react_to_time = satisfied
        it.runner.dispatch(Stopping())  # which is when the runner looks at the deadline
        await it.engine.wait_for(lambda: bool(it.engine.ticks))
        assert [tick.monotonic >= due for tick in it.engine.ticks] == [True]

    run(test)


def test_a_timer_that_always_fails_does_not_spin() -> None:
    def fail() -> list[Command]:
        raise RuntimeError("a bug")

    async def test(it: Bench) -> None:
        it.engine.deadline = 0.0
        it.engine.react_to_time = fail
        it.runner.dispatch(Stopping())
        await it.engine.wait_for(lambda: bool(it.engine.ticks))
        await asyncio.sleep(0.05)
        assert len(it.engine.ticks) == 1

    run(test)


def test_paths_are_set_for_peers_of_the_data_plane_only() -> None:
    other = SecretKey.generate().public_key

    async def test(it: Bench) -> None:
        it.datapath.add_peer(PEER)
        it.engine.react = lambda event: [
            SetDataPaths(PEER, (Route(PATH, 1400),), PathMode.DUPLICATE, 0.25, 20),
            SetDataPaths(other, (Route(PATH),)),
        ]
        it.runner.dispatch(Stopping())
        assert it.datapath.paths == {PEER: ([(0, REMOTE, 0, 1400)], PathMode.DUPLICATE, 250_000_000)}
        assert it.datapath.keepalives == {PEER: 20}
        it.engine.react = lambda event: [SetDataPaths(PEER)]
        it.runner.dispatch(Stopping())
        assert it.datapath.paths == {PEER: ([], PathMode.PRIMARY, 0)}

    run(test)


def test_a_knock_is_sent_as_it_is() -> None:
    async def test(it: Bench) -> None:
        it.engine.react = lambda event: [Knock(1, REMOTE, NONCE)]
        it.runner.dispatch(Stopping())
        assert it.datapath.sent == [(1, REMOTE, b"\xff\x02\x06\x00" + NONCE)]

    run(test)


@pytest.mark.parametrize(
    ("host", "addresses"),
    [("192.0.2.9", (REMOTE,)), ("no host name", ()), ("224.0.0.1", ()), ("a" * 300, ())],
)
def test_names_are_resolved_or_found_to_have_no_address(host: str, addresses: tuple[bytes, ...]) -> None:
    async def test(it: Bench) -> None:
        it.engine.react = lambda event: [ResolveName(host, 4000)] if isinstance(event, Stopping) else []
        it.runner.dispatch(Stopping())
        await it.engine.wait_for(lambda: it.engine.events[-1] == NameResolved(host, 4000, addresses))

    run(test)


def test_traffic_is_reported_as_what_was_added_since_the_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "PERIOD_S", 0.01)

    async def test(it: Bench) -> None:
        it.datapath.traffic[PEER] = (100, 10)
        await it.engine.wait_for(lambda: it.engine.events == [DataTraffic(PEER, 100, 10)])
        it.datapath.traffic[PEER] = (150, 10)
        await it.engine.wait_for(lambda: it.engine.events[1:] == [DataTraffic(PEER, 50, 0)])
        await asyncio.sleep(0.03)
        assert len(it.engine.events) == 2

    run(test)


def test_channels_are_opened_moved_and_closed_for_others() -> None:
    async def test(it: Bench) -> None:
        elsewhere = Path(0, pack("192.0.2.10", 1))
        it.engine.react = lambda event: (
            [
                SetRelayLimits(5, 6, 7),
                OpenRelay(1, PATH, elsewhere, 1000, 2000, 3000),
                OpenRelay(2, elsewhere, PATH, trusted=True),
                OpenRelay(3, PATH, elsewhere),
            ]
            if isinstance(event, Stopping)
            else []
        )
        it.runner.dispatch(Stopping())
        opened = [event for event in it.engine.events if isinstance(event, RelayOpened)]
        assert opened == [RelayOpened(1, (0, 1)), RelayOpened(2, (2, 3)), RelayOpened(3, None)]
        assert it.datapath.relay_limits[:2] == [
            {"rate": 5, "burst": 6, "day_quota": 7},
            {"rate": 1000, "burst": 2000, "quota": 3000, "trusted": False},
        ]
        moved = Path(0, pack("192.0.2.11", 1))
        it.engine.react = lambda event: [
            MoveRelay(1, moved),
            MoveRelay(77, moved),
            CloseRelay(3),
            CloseRelay(3),
        ]
        it.runner.dispatch(Stopping())
        assert it.datapath.relayed == {(0, 1): [(0, REMOTE), (0, moved.remote)]}

    run(test)


def test_the_engine_hears_which_channels_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "PERIOD_S", 0.01)

    async def test(it: Bench) -> None:
        it.engine.react = lambda event: [OpenRelay(1, PATH, PATH)] if isinstance(event, Stopping) else []
        it.runner.dispatch(Stopping())
        it.datapath.silent.append((0, 1))
        await it.engine.wait_for(lambda: RelayEnded(((0, 1),)) in it.engine.events)

    run(test)


def test_a_request_yields_progress_and_ends_with_its_result() -> None:
    def answer(event: Event) -> list[Command]:
        assert isinstance(event, PingRequested)
        return [Notify(event.request, False, {"n": 1}), Notify(event.request, True, {"n": 2})]

    async def test(it: Bench) -> None:
        it.engine.react = answer
        bodies = [notice.body async for notice in it.runner.ask(lambda request: PingRequested(request, PEER))]
        assert bodies == [{"n": 1}, {"n": 2}]

    run(test)


def test_a_caller_that_leaves_cancels_its_request() -> None:
    async def test(it: Bench) -> None:
        asking = it.runner.ask(lambda request: PingRequested(request, PEER))
        waiting = asyncio.ensure_future(cast(Any, anext(asking)))
        await it.engine.wait_for(lambda: bool(it.engine.events))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        (asked, cancelled) = it.engine.events
        assert isinstance(asked, PingRequested)
        assert cancelled == RequestCancelled(asked.request)

    run(test)


def test_stopping_ends_open_requests_and_takes_no_more_events() -> None:
    async def test(it: Bench) -> None:
        asking = it.runner.ask(lambda request: PingRequested(request, PEER))
        waiting = asyncio.ensure_future(cast(Any, anext(asking)))
        await it.engine.wait_for(lambda: bool(it.engine.events))
        await it.runner.stop()
        notice = await waiting
        assert notice.final
        assert notice.body["error"]["message"] == "the daemon is stopping"
        it.runner.dispatch(ForgetRequested(PEER))
        assert len(it.engine.events) == 1

    run(test)


def test_a_sleep_is_noticed_once_and_a_short_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = [100.0, 100.0, 104.0, 104.0, 164.0, 164.0, 164.0]
    read = 0

    async def test(it: Bench) -> None:
        def seconds_slept() -> float:
            nonlocal read
            read += 1
            it.engine.happened.set()
            return readings[min(read, len(readings)) - 1]

        monkeypatch.setattr(runner_module, "seconds_slept", seconds_slept)
        await it.engine.wait_for(lambda: read > len(readings))
        assert it.woke == 1

    monkeypatch.setattr(runner_module, "PERIOD_S", 0.01)
    run(test)


def test_a_machine_that_never_slept_has_slept_for_no_time() -> None:
    first = runner_module.seconds_slept()
    assert abs(runner_module.seconds_slept() - first) < 1
