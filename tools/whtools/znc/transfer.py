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
from whtools.znc.settings import DEFAULT_PATIENCE_S, PROGRAM_PATIENCE_S, Settings
from whtools.znc.silence import Silence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wh.meeting.rendezvous import Party

PROGRESS_S = 0.5
LOOK_S = 1.0
LOST_MARGIN_S = 60.0
"""How much longer the kernel goes on than we do: the end is ours to tell."""

CANCELLING_S = 2.0


class Way:
    """The way that the connection takes."""

    def __init__(self, party: Party, key: bytes) -> None:
        self._party = party
        self._key = key

    def text(self) -> str:
        """`direct 192.0.2.1:4000`, for people; empty where there is none."""
        return self._party.data_path_text(self._key)


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
        self.stream = _stream(connection, ends, settings, plain=plain)
        self._wants_status = settings.status
        self._total = ends.total
        self._progress = settings.progress
        self._path = ""
        self._reporter = reporter
        self._way = way
        self._silence = Silence(patience_of(settings, ends), reporter, time.monotonic())
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
            skipped=self.stream.skipped,
            seconds=round(time.monotonic() - started, 3),
            status=self.stream.status,
        )
        return self.stream.status or EXIT_DONE if self._wants_status else EXIT_DONE

    def _wait(self, started: float) -> None:
        pause = PROGRESS_S if self._progress else None if self._way is None else LOOK_S
        while not self._done.wait(pause):
            if self._progress:
                self._show(started)
            if self._way is not None and self._silence.look(self.stream.unheard_s(), time.monotonic()):
                self.stream.cancel(End.LOST, "nothing was heard of the other end any more")

    def _path_text(self) -> str:
        """The last that there was: when all is over the other end may have left already."""
        if self._way is not None:
            self._path = self._way.text() or self._path
        return self._path

    def _show(self, started: float) -> None:
        sent, received = self.stream.sent, self.stream.received
        seconds = max(time.monotonic() - started, 1e-3)
        rate = (sent + received) / seconds
        words = [f"{sized(sent)} sent"] if sent or not received else []
        words += [f"{sized(received)} received"] if received else []
        words.append(f"{sized(rate)}/s")
        if self._total:
            whole = sent + self.stream.skipped
            words.append(f"{100 * whole / self._total:.0f}% of {sized(self._total)}")
        path = self._path_text()
        self._reporter.progress(
            ", ".join([*words, path] if path else words),
            sent=sent,
            received=received,
            rate=round(rate),
            total=self._total,
            path=path,
        )


def _stream(connection: socket.socket, ends: LocalEnds, settings: Settings, *, plain: bool) -> Stream:
    if plain:
        return PlainStream(
            connection,
            ends.source,
            ends.sink,
            idle_s=settings.idle_s,
            ends_with_peer=ends.ends_with_peer,
            command=ends.command,
        )
    return FramedStream(
        connection,
        ends.source,
        ends.sink,
        idle_s=settings.idle_s,
        ends_with_peer=ends.ends_with_peer,
        command=ends.command,
        beginning=ends.beginning,
        lost_after_s=patience_of(settings, ends) + LOST_MARGIN_S,
    )


def patience_of(settings: Settings, ends: LocalEnds) -> float:
    """With an end that is silent. Programs behind us, which cannot be asked to go on later, wait too."""
    if settings.patience_s is not None:
        return settings.patience_s
    return PROGRAM_PATIENCE_S if ends.feeds_program else DEFAULT_PATIENCE_S


def sized(count: float) -> str:
    """`1.5 MB`: thousands, as rates are told."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.4g} TB"
