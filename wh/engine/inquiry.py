"""What a user asks of a running node: a question with one final answer, told by Notify."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from wh.engine.commands import Notify
from wh.engine.core import Engine
from wh.engine.events import Instant

INQUIRIES_MAX = 64

TOO_MANY = "WH322"


class Inquiry(Protocol):
    def start(self, now: Instant) -> None: ...

    def cancel(self) -> None: ...


Finish = Callable[[dict[str, Any]], None]
Progress = Callable[[dict[str, Any]], None]


class Inquiries:
    """At most INQUIRIES_MAX at once; each ends with one final Notify, unless it is cancelled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: dict[int, Inquiry] = {}

    def run(self, request: int, make: Callable[[Progress, Finish], Inquiry], now: Instant) -> None:
        """request: the id that the Notify carries. make: an inquiry with these callbacks."""
        if len(self._running) >= INQUIRIES_MAX or request in self._running:
            body = error(TOO_MANY, "too many requests are running", "try again in a moment")
            self._engine.emit(Notify(request, True, body))
            return

        def progress(body: dict[str, Any]) -> None:
            self._engine.emit(Notify(request, False, body))

        def finish(body: dict[str, Any]) -> None:
            self._running.pop(request, None)
            self._engine.emit(Notify(request, True, body))

        self._running[request] = make(progress, finish)
        self._running[request].start(now)

    def cancel(self, request: int) -> None:
        inquiry = self._running.pop(request, None)
        if inquiry is not None:
            inquiry.cancel()


def error(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "hint": hint}}
