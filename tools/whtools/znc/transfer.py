"""One stream from its connection to its end, with what is told of it meanwhile."""

from __future__ import annotations

import socket
import threading
import time

from wh.streams.failure import End
from wh.streams.framed import FramedStream
from wh.streams.plain import PlainStream
from wh.streams.stream import Stream
from whtools.znc.local_ends import LocalEnds
from whtools.znc.outcome import EXIT_DONE, Ended, Reporter, ended_by_stream
from whtools.znc.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wh.meeting.rendezvous import Party

PROGRESS_S = 0.5
WAY_CHECK_S = 1.0
NO_WAY_S = 20.0
"""Without one after which the stream is given up; ways that break are found again in a few seconds."""

CANCELLING_S = 2.0


class Way:
    """The way that the connection takes."""

    def __init__(self, party: Party, key: bytes) -> None:
        self._party = party
        self._key = key

    def text(self) -> str:
        """`direct 192.0.2.1:4000`, for people."""
        return self._party.path_text(self._key)

    def exists(self) -> bool:
        return self._party.has_path(self._key)


class Transfer:
    """run() it in any thread. way: None where it is not ours to know."""

    def __init__(
        self,
        connection: socket.socket,
        ends: LocalEnds,
        settings: Settings,
        reporter: Reporter,
        *,
        plain: bool = False,
        way: Way | None = None,
    ) -> None:
        kind = PlainStream if plain else FramedStream
        self.stream: Stream = kind(
            connection,
            ends.source,
            ends.sink,
            idle_s=settings.idle_s,
            ends_with_peer=ends.ends_with_peer,
            command=ends.command,
        )
        self._wants_status = settings.status
        self._total = ends.total
        self._progress = settings.progress
        self._path = ""
        self._reporter = reporter
        self._way = way
        self._way_at = time.monotonic()  # when there was one last
        self._done = threading.Event()

    def run(self) -> int:
        """The exit code: 0, or a command's status where that is wanted. Raises Ended where it did not end
        well. An interrupt is told to the other end, and goes on."""
        outcome: list[Ended | None] = []
        started = time.monotonic()
        self._path_text()

        def work() -> None:
            failure = self.stream.run()
            outcome.append(None if failure is None else ended_by_stream(failure))
            self._done.set()

        worker = threading.Thread(target=work, daemon=True)
        try:  # the start of the worker too: an interrupt in it finds the stream running
            worker.start()
            self._wait(started)
        except BaseException:
            self.stream.cancel(End.CANCELLED, "was interrupted")
            if worker.is_alive():
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
            status=self.stream.status,
        )
        return self.stream.status or EXIT_DONE if self._wants_status else EXIT_DONE

    def _wait(self, started: float) -> None:
        pause = PROGRESS_S if self._progress else None if self._way is None else WAY_CHECK_S
        while not self._done.wait(pause):
            if self._progress:
                self._show(started)
            if self._way is not None and self._is_lost(self._way):
                self.stream.cancel(End.LOST, "there is no way to the other end any more")

    def _is_lost(self, way: Way) -> bool:
        now = time.monotonic()
        if way.exists():
            self._way_at = now
        return now - self._way_at >= NO_WAY_S

    def _path_text(self) -> str:
        """The last that there was: when all is over the other end may have left already."""
        if self._way is not None and self._way.exists():
            self._path = self._way.text()
        return self._path

    def _show(self, started: float) -> None:
        sent, received = self.stream.sent, self.stream.received
        seconds = max(time.monotonic() - started, 1e-3)
        rate = (sent + received) / seconds
        words = [f"{sized(sent)} sent"] if sent or not received else []
        words += [f"{sized(received)} received"] if received else []
        words.append(f"{sized(rate)}/s")
        if self._total:
            words.append(f"{100 * sent / self._total:.0f}% of {sized(self._total)}")
        path = self._path_text()
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
