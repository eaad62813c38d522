"""A fresh socket, and where servers see it: for measuring a NAT, and before punching through one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from wh.engine.core import Engine
from wh.engine.events import Instant, Key, Path
from wh.engine.requests import Answer, Request, Requests, Schedule
from wh.engine.timers import Alarms
from wh.wire.address import Address, is_v4
from wh.wire.messages import Pong

NEXT_SERVER_AFTER_S = 0.2
"""A server that is silent for so long may have gone; two round trips to most."""


@dataclass(frozen=True, slots=True)
class Sample:
    """socket: open, and the receiver's to close. observed: one address for each server that answered."""

    socket: int
    family: int
    observed: tuple[Address, ...]


Done = Callable[[Sample | None, Instant], None]


class Sampling:
    """Opens a socket and PINGs servers from it, `at_once` at first and then one each 0.2 s, until `wanted`
    have answered or patience_s is over. done gets the sample, None where no socket could be opened; never
    before this has returned."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        servers: Sequence[tuple[Key, Address]],
        now: Instant,
        done: Done,
        *,
        family: int = 4,
        at_once: int = 1,
        wanted: int = 1,
        patience_s: float = 0.6,
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._servers = [each for each in servers if is_v4(each[1]) == (family == 4)]
        self._done = done
        self._family = family
        self._at_once = at_once
        self._wanted = min(wanted, len(self._servers))
        self._patience_s = patience_s
        self._socket: int | None = None
        self._observed: list[Address] = []
        self._running: list[Request] = []
        self._alarms = Alarms(engine.timers)
        self._request = engine.sockets.open(family, self._opened)

    def cancel(self) -> None:
        """done is not called any more."""
        self._engine.sockets.give_up(self._request)
        self._stop()
        if self._socket is not None:
            self._engine.sockets.close(self._socket)

    def _opened(self, socket: int | None, port: int, now: Instant) -> None:
        if socket is None:
            self._done(None, now)
            return
        self._socket = socket
        for number, (key, address) in enumerate(self._servers):
            wait_s = max(0, number + 1 - self._at_once) * NEXT_SERVER_AFTER_S
            if not wait_s:
                self._ask(key, address, now)
            elif wait_s < self._patience_s:
                self._alarms.add(now.monotonic + wait_s, partial(self._ask, key, address))
        self._alarms.add(now.monotonic + (self._patience_s if self._servers else 0.0), self._finish)

    def _ask(self, key: Key, address: Address, now: Instant) -> None:
        if self._socket is None or self._engine.addressing.path_to(address) is None:
            return
        ping = self._engine.echo()
        schedule = Schedule((), self._patience_s)
        path = Path(self._socket, address)
        self._running.append(
            self._requests.start(
                key,
                [path],
                ping,
                now,
                on_answer=lambda answer, then: self._answered(key, path, answer, then),
                schedule=schedule,
                speculative=True,
            )
        )

    def _answered(self, key: Key, path: Path, answer: Answer, now: Instant) -> None:
        """The path is no way to that server: it ends with the socket."""
        self._engine.peers.obtain(key).invalidate(path)
        observed = answer.message.observed if isinstance(answer.message, Pong) else None
        if observed is None or not self._engine.addressing.is_acceptable_as_own(observed):
            return
        self._observed.append(observed)
        if len(self._observed) >= self._wanted:
            self._finish(now)

    def _finish(self, now: Instant) -> None:
        self._stop()
        if self._socket is not None:
            self._done(Sample(self._socket, self._family, tuple(self._observed)), now)

    def _stop(self) -> None:
        for request in self._running:
            self._requests.cancel(request)
        self._alarms.cancel()
