"""The two sides of the search for a port where one NAT gives random ones (docs/protocol.md section 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.requests import Answer, Requests, Schedule
from wh.engine.timers import Alarm, Alarms
from wh.punch.schedule import SEARCH_INTERVAL_S, WAVES, Wave, search_addresses
from wh.wire.address import Address

CANARY_S = 2.0
CANARY = Schedule((0.6,), 1.5)
CANARY_DEATHS = 2
"""A NAT whose table is full forgets other connections first: after so many PINGs in a row without an answer
the search ends."""


class ProbeOne(Protocol):
    def __call__(self, path: Path, ttl: int, now: Instant, /) -> None: ...


class PortSearch:
    """Probes distinct random ports of the peer, one after the other, from one socket."""

    def __init__(self, engine: Engine, socket: int, ips: Sequence[bytes], probe: ProbeOne) -> None:
        self._engine = engine
        self._socket = socket
        self._probe = probe
        self._left = search_addresses(ips, engine.rng)
        self._next = Alarm(engine.timers)

    def start(self, now: Instant) -> None:
        if not self._left:
            return
        self._next.set(now.monotonic + SEARCH_INTERVAL_S, self.start)
        self._probe(Path(self._socket, self._left.pop()), 0, now)

    def stop(self) -> None:
        self._next.cancel()


class ManySockets:
    """Opens sockets in waves, each of which sends one PROBE to the peer's one address. overloaded: our own
    NAT seems to suffer."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        target: Address,
        servers: Sequence[tuple[Key, Address]],
        probe: ProbeOne,
        overloaded: Callable[[Instant], None],
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._target = target
        self._servers = servers
        self._probe = probe
        self._overloaded = overloaded
        self._sockets: list[int] = []
        self._opening: set[int] = set()
        self._alarms = Alarms(engine.timers)
        self._unanswered = 0

    @property
    def sockets(self) -> tuple[int, ...]:
        """Those that are open; whoever stops this closes them."""
        return tuple(self._sockets)

    def start(self, now: Instant) -> None:
        for wave in WAVES:
            self._alarms.add(now.monotonic + wave.at_s, partial(self._open, wave))
        self._alarms.add(now.monotonic + CANARY_S, self._send_canary)

    def stop(self) -> None:
        self._alarms.cancel()
        for request in self._opening:
            self._engine.sockets.give_up(request)

    def _open(self, wave: Wave, now: Instant) -> None:
        if wave.renew:
            for socket in self._sockets:
                self._engine.sockets.close(socket)
            self._sockets.clear()
        for _ in range(wave.sockets):
            self._open_one(wave.ttl)

    def _open_one(self, ttl: int) -> None:
        def opened(socket: int | None, port: int, now: Instant) -> None:
            self._opening.discard(request)
            if socket is not None:
                self._sockets.append(socket)
                self._probe(Path(socket, self._target), ttl, now)

        request = self._engine.sockets.open(4, opened)
        self._opening.add(request)

    def _send_canary(self, now: Instant) -> None:
        self._alarms.add(now.monotonic + CANARY_S, self._send_canary)
        for key, address in self._servers[:1]:
            path = self._engine.addressing.path_to(address)
            ping = self._engine.echo()
            self._requests.start(
                key,
                [path] if path is not None else [],
                ping,
                now,
                on_answer=self._canary_lives,
                on_failure=self._canary_silent,
                schedule=CANARY,
                speculative=True,
            )

    def _canary_lives(self, answer: Answer, now: Instant) -> None:
        self._unanswered = 0

    def _canary_silent(self, now: Instant) -> None:
        self._unanswered += 1
        if self._unanswered == CANARY_DEATHS:
            self._overloaded(now)
