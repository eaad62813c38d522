"""The driver of a node: the only place with an event loop and clocks.

data plane -> events -> Node -> commands -> data plane, name resolution, whoever asked. An error of the engine
is logged and counted; the loop goes on, and so does traffic, which needs none of this.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from wh.engine.commands import Command, Notify
from wh.engine.events import (
    TCP,
    DataOnNewPath,
    DataSession,
    DataTraffic,
    Event,
    Instant,
    Key,
    MessageReceived,
    Path,
    PathSilent,
    PathWanted,
    RelayEnded,
    RequestCancelled,
    SessionOpened,
)
from wh.errors import Code, IpcError
from wh.net.control import ControlChannel
from wh.net.execution import Callbacks, Execution
from wh.net.names import NameResolver
from wh.net.punch_sockets import PunchSockets
from wh.net.sources import Sources
from wh.net.tcp.bridge import TcpBridge
from wh.node.executor import Executor, carry_out
from whcore import datapath as core
from whcore.keys import encode_key

log = logging.getLogger(__name__)

CONTROL_BATCH = 64
"""Datagrams judged before the loop sees to other things: at most 25 ms of handshakes."""
PERIOD_S = 5.0
"""Between two traffic reports, and two removals of idle sessions."""
SLEPT_MIN_S = 5.0
"""A suspended machine's NAT mappings live on for this long at least."""
TICK_MIN_S = 0.001
FAILED_TICK_PAUSE_S = 1.0
"""A timer that fails may be due again at once, for ever."""
REQUESTS_MAX = 64
FAILURE_LOG_S = 60.0
RELAY_SILENCE_S = 120.0
"""A channel dies after this (docs/protocol.md section 8)."""
NS = 10**9
EVENTS_PER_DISPATCH_MAX = 4096
"""Against a Send that fails at once and is tried again at once, for ever."""

STOPPED = {"error": {"code": Code.NO_DAEMON, "message": "the daemon is stopping", "hint": ""}}

Result = TypeVar("Result")


class Engine(Protocol):
    """What is driven: wh.node.node.Node."""

    def handle(self, event: Event, now: Instant) -> list[Command]: ...

    def tick(self, now: Instant) -> list[Command]: ...

    def next_deadline(self) -> float | None: ...

    def twins(self) -> frozenset[Key]: ...

    def without_ipv6(self) -> frozenset[Key]: ...


def read_clocks() -> Instant:
    return Instant(time.monotonic(), time.time())


def seconds_slept() -> float:
    """How long this machine was suspended since it started (or by what its boot time was shifted)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


class Runner:
    """start() needs a running loop; stop() comes before the data plane is closed."""

    def __init__(
        self,
        node: Engine,
        datapath: core.Datapath,
        channel: ControlChannel,
        punch_sockets: PunchSockets,
        tcp: TcpBridge,
        callbacks: Callbacks,
        *,
        direct_only: bool = False,
        allow_loopback: bool = False,
    ) -> None:
        self._node = node
        self._datapath = datapath
        self._channel = channel
        punch_sockets.receive = self._on_punch_datagram
        self._tcp = tcp
        tcp.tell = self.dispatch
        self._execution: Executor = Execution(
            datapath,
            channel,
            punch_sockets,
            tcp,
            self,
            callbacks,
            direct_only=direct_only,
        )
        self._callbacks = callbacks
        self._names = NameResolver(allow_loopback=allow_loopback)
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: dict[int, asyncio.Queue[Notify]] = {}
        self._last_request = 0
        self._traffic: dict[Key, tuple[int, int, int]] = {}
        self._tick_not_before = 0.0
        self._twins: frozenset[Key] = frozenset()
        self._without_ipv6: frozenset[Key] = frozenset()
        self._stopped = False
        self._failures = 0
        self._failure_logged_at = float("-inf")

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._datapath.event_fd, self._on_readable)
        self._spawn(self._periodically())
        self._schedule()

    async def stop(self) -> None:
        """No event is taken in after this; whoever waits for the result of a request gets an error."""
        self._stopped = True
        for request, answers in self._requests.items():
            answers.put_nowait(Notify(request, final=True, body=STOPPED))
        asyncio.get_running_loop().remove_reader(self._datapath.event_fd)
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def sources(self) -> Sources:
        """What control datagrams leave from."""
        return self._channel.sources

    @property
    def unresolved(self) -> dict[str, str]:
        """Why, by name, of endpoints' names that could not be looked up."""
        return self._names.failures

    def counters(self) -> dict[str, int]:
        """Of the control channel, and how often the engine failed."""
        return {
            **self._channel.counters(),
            **self._tcp.counters(),
            "engine_failures": self._failures,
        }

    def dispatch(self, *events: Event) -> None:
        """Give events to the engine and carry out its commands, before returning."""
        if self._stopped:
            return
        now = read_clocks()
        self._settle(deque(events), now)
        self._schedule()

    async def ask(self, make_event: Callable[[int], Event]) -> AsyncGenerator[Notify, None]:
        """Put a request to the engine (make_event gets its number) and yield progress, then the result.

        A caller that leaves early cancels the request. Raises IpcError where too many are open.
        """
        if len(self._requests) >= REQUESTS_MAX:
            raise IpcError(f"{REQUESTS_MAX} requests are open", code=Code.IPC_BUSY, hint="try again")
        self._last_request += 1
        request = self._last_request
        answers: asyncio.Queue[Notify] = asyncio.Queue()
        self._requests[request] = answers
        done = False
        try:
            self.dispatch(make_event(request))
            while not done:
                notice = await answers.get()
                done = notice.final
                yield notice
        finally:
            del self._requests[request]
            if not done:
                self.dispatch(RequestCancelled(request))

    # What happens, as events.

    def _on_readable(self) -> None:
        """The event fd stays readable while datagrams are left, so a flood cannot keep the loop here."""
        now = read_clocks()
        events: deque[Event] = deque()
        for raw in self._datapath.drain_events():
            events.extend(self._translate(raw))
        for datagram in self._datapath.drain_control(CONTROL_BATCH):
            events.extend(self._receive(datagram, now))
        self._settle(events, now)
        self._schedule()

    def _on_punch_datagram(self, datagram: core.ControlDatagram) -> None:
        now = read_clocks()
        self._settle(deque(self._guarded(self._channel.receive, datagram, now) or ()), now)
        self._schedule()

    def _receive(self, datagram: core.ControlDatagram, now: Instant) -> list[Event]:
        known = self._tcp.datagram_from_data_plane(datagram)
        if known is None:
            return []
        events = self._guarded(self._channel.receive, known, now) or []
        if known.socket == TCP and not known.channel:
            for event in events:
                if isinstance(event, SessionOpened) or (
                    isinstance(event, MessageReceived) and not event.first_contact
                ):
                    self._tcp.proved(event.path, member=self._datapath.has_peer(event.peer))
        return events

    def _translate(self, raw: tuple[Any, ...]) -> list[Event]:
        """An event of the data plane, as the engine knows it."""
        match raw:
            case (core.EVENT_PATH_WANTED, peer):
                return [PathWanted(peer)]
            case (core.EVENT_NEW_PATH, peer, socket, remote, channel):
                path = self._tcp.from_data_plane(Path(socket, remote, channel))
                return [] if path is None else [DataOnNewPath(peer, path)]
            case (core.EVENT_PATH_SILENT, peer, socket, remote, channel):
                path = self._tcp.from_data_plane(Path(socket, remote, channel))
                if path is not None and self._datapath.has_peer(peer):
                    self._datapath.forget_sources(peer)
                    return [PathSilent(peer, path, self._datapath.packets_received(peer))]
            case (core.EVENT_HANDSHAKE, peer):
                return [DataSession(peer, up=True)]
            case (core.EVENT_HANDSHAKE_FAILED, peer):
                return [DataSession(peer, up=False)]
            case (core.EVENT_TUN_GONE,):
                self._callbacks.tun_gone()
        return []

    def _on_timer(self) -> None:
        now = read_clocks()
        events: deque[Event] = deque(self._channel.expire(now))
        due = self._engine_deadline()
        if due is not None and due <= now.monotonic:
            commands = self._guarded(self._node.tick, now)
            if commands is None:
                self._tick_not_before = now.monotonic + FAILED_TICK_PAUSE_S
            events.extend(self._execute(commands, now))
        self._settle(events, now)
        self._schedule()

    def _schedule(self) -> None:
        """One timer, for whichever of the engine and the channel wants it first."""
        deadlines = [at for at in (self._engine_deadline(), self._channel.next_deadline()) if at is not None]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadlines:
            delay = max(min(deadlines) - time.monotonic(), TICK_MIN_S)
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _engine_deadline(self) -> float | None:
        due = self._node.next_deadline()
        return None if due is None else max(due, self._tick_not_before)

    async def _periodically(self) -> None:
        slept_before = seconds_slept()
        while True:
            await asyncio.sleep(PERIOD_S)
            slept = seconds_slept()
            if slept - slept_before > SLEPT_MIN_S:
                self._callbacks.woke()
            slept_before = slept
            now = read_clocks()
            self._guarded(self._channel.remove_idle, now)
            self._tcp.expire()
            self._guarded(self._tell_twins)
            self._guarded(self._tell_families)
            for report in (self._traffic_report, self._expire_relays):
                self.dispatch(*(self._guarded(report) or ()))

    def _tell_twins(self) -> None:
        before, self._twins = self._twins, self._node.twins()
        for key in self._twins - before:
            log.warning("two running nodes have the key %s: each gets a part of its packets", encode_key(key))

    def _tell_families(self) -> None:
        before, self._without_ipv6 = self._without_ipv6, self._node.without_ipv6()
        if self._without_ipv6 != before:
            self._callbacks.without_ipv6(self._without_ipv6)

    def _expire_relays(self) -> list[Event]:
        ended = self._datapath.relay_expire(int(RELAY_SILENCE_S * NS))
        return [RelayEnded(tuple(ended))] if ended else []

    def _traffic_report(self) -> list[Event]:
        """One event a peer that user data went to or came from; keepalives and handshakes are none."""
        before, self._traffic = self._traffic, {}
        report: list[Event] = []
        for peer in self._datapath.peers():
            packets = peer.rx_packets + peer.tx_packets
            received, sent, last_packets = before.get(peer.public_key, (0, 0, 0))
            self._traffic[peer.public_key] = (peer.rx_bytes, peer.tx_bytes, packets)
            if packets != last_packets:
                report.append(DataTraffic(peer.public_key, peer.rx_bytes - received, peer.tx_bytes - sent))
        return report

    # Commands, carried out.

    def _settle(self, events: deque[Event], now: Instant) -> None:
        """Commands may fail at once, which are events again: go on until there are none."""
        for _ in range(EVENTS_PER_DISPATCH_MAX):
            if not events:
                return
            events.extend(self._execute(self._guarded(self._node.handle, events.popleft(), now), now))
        self._failures += 1
        log.error("the engine does not come to rest; %d events dropped", len(events))

    def _execute(self, commands: list[Command] | None, now: Instant) -> list[Event]:
        events: list[Event] = []
        for command in commands or ():
            events += self._guarded(carry_out, command, self._execution, now) or ()
        return events

    # What commands are carried out with here (wh.net.execution.Driver)

    def resolve(self, host: str, port: int) -> None:
        self._spawn(self._resolve(host, port))

    def notify(self, notice: Notify) -> None:
        if notice.request in self._requests:
            self._requests[notice.request].put_nowait(notice)

    async def _resolve(self, host: str, port: int) -> None:
        self.dispatch(await self._names.resolve(host, port))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _guarded(self, step: Callable[..., Result], *arguments: Any) -> Result | None:
        """An error in the engine is ours: tell it once a minute, in full, and go on with the next event."""
        try:
            return step(*arguments)
        except Exception:
            self._failures += 1
            now = time.monotonic()
            if now - self._failure_logged_at >= FAILURE_LOG_S:
                self._failure_logged_at = now
                log.exception("the engine failed (%d times so far)", self._failures)
            return None
