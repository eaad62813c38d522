"""One stream from its connection to its end, with what is told of it meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from wh.streams.stream import End, FramedStream, PlainStream, Stream
from whtools.znc.local_ends import LocalEnds
from whtools.znc.outcome import Ended, Reporter, ended_by_stream
from whtools.znc.settings import Settings

PROGRESS_S = 0.5
CANCELLING_S = 2.0


class Transfer:
    """run() it in any thread. path: text for the progress line, such as `direct 192.0.2.1:4000`."""

    def __init__(
        self,
        connection: socket.socket,
        ends: LocalEnds,
        settings: Settings,
        reporter: Reporter,
        *,
        plain: bool = False,
        path: Callable[[], str] = lambda: "",
    ) -> None:
        kind = PlainStream if plain else FramedStream
        self.stream: Stream = kind(
            connection, ends.source, ends.sink, idle_s=settings.idle_s, ends_with_peer=ends.ends_with_peer
        )
        self._total = ends.total
        self._progress = settings.progress
        self._reporter = reporter
        self._path = path
        self._done = threading.Event()

    def run(self) -> None:
        """Raises Ended where it did not end well. An interrupt is told to the other end, and goes on."""
        outcome: list[Ended | None] = []
        started = time.monotonic()

        def work() -> None:
            failure = self.stream.run()
            outcome.append(None if failure is None else ended_by_stream(failure))
            self._done.set()

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            self._wait(started)
        except BaseException:
            self.stream.cancel(End.CANCELLED, "was interrupted")
            self._done.wait(CANCELLING_S)
            raise
        if self._progress:
            self._show(started)
        sent, received = self.stream.sent, self.stream.received
        if outcome[0] is not None:
            raise outcome[0]
        self._reporter.event(
            "done",
            f"done: {sized(sent)} sent, {sized(received)} received",
            level=2,
            sent=sent,
            received=received,
            seconds=round(time.monotonic() - started, 3),
        )

    def _wait(self, started: float) -> None:
        while not self._done.wait(PROGRESS_S if self._progress else None):
            self._show(started)

    def _show(self, started: float) -> None:
        sent, received = self.stream.sent, self.stream.received
        seconds = max(time.monotonic() - started, 1e-3)
        rate = (sent + received) / seconds
        words = [f"{sized(sent)} sent"] if sent or not received else []
        words += [f"{sized(received)} received"] if received else []
        words.append(f"{sized(rate)}/s")
        if self._total:
            words.append(f"{100 * sent / self._total:.0f}% of {sized(self._total)}")
        path = self._path()
        self._reporter.progress(
            ", ".join([*words, path] if path else words),
            sent=sent,
            received=received,
            rate=round(rate),
            total=self._total,
            path=path,
        )


def sized(count: float) -> str:
    """`1.5 MB`: thousands, as rates are told."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.4g} TB"
