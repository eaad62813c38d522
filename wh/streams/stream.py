"""One stream: a local source and sink joined to a TCP connection, until both directions are done.

Two threads, one a direction, and blocking calls: each side waits for the slower one, and a direction that
stands still does not hold up the other. wh.streams.framed is for two of us, wh.streams.plain for any other
TCP program.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from wh.streams.connection import (
    LOST_AFTER_S,
    lost,
    prepare,
    unheard_s,
    wait_for_acknowledgement,
    wait_for_end,
)
from wh.streams.endpoints import Command, Conduit, Sink, Source, Wakeup
from wh.streams.failure import End, StreamFailure
from wh.streams.frames import BadFrame

BUFFER_LEN = 1 << 20
DRAIN_LEN = 1 << 16
FAREWELL_S = 10.0
"""How long the end of the other side is awaited once all is done and acknowledged."""

LAST_ACK_S = 1.0
"""How long after that for the word that the other side has our end too. Without it, it has gone already."""

TELLING_S = 0.5
"""At most, for each step of telling the other end why we stop."""

JOIN_S = 0.2
FAILED_JOIN_S = 1.0


class Stream:
    """run() it once. sent, received: bytes of user data so far. cancel() ends it from any thread."""

    def __init__(
        self,
        connection: socket.socket,
        source: Source | None,
        sink: Sink | None,
        *,
        idle_s: float | None = None,
        ends_with_peer: bool = False,
        command: Command | None = None,
        lost_after_s: float = LOST_AFTER_S,
    ) -> None:
        """Takes ownership of the connection. source, sink: None for a direction that is not wanted.
        idle_s: end it where no byte of data moved for so long. ends_with_peer: where nothing was read from
        the source when the other end has no more to say, we have not either (a terminal that nobody types
        on). command: whose streams these are; the stream ends with it.
        lost_after_s: without any answer."""
        self.skipped = 0  # bytes of ours that the other end has already
        self.status: int | None = None  # of our command, else of the other end's
        self.sent = 0
        self.received = 0
        self._connection = connection
        self._lost_after_s = lost_after_s
        self._source = source
        self._sink = sink
        self._idle_s = idle_s
        self._ends_with_peer = ends_with_peer
        self._command = command
        self._drops = False  # what comes in: the command does not read it
        self._wakeup = Wakeup()  # for the sender: nothing more is to be read
        self._lock = threading.Lock()
        self._failure: StreamFailure | None = None
        self._moved_at = time.monotonic()
        self._finished = threading.Event()

    def run(self) -> StreamFailure | None:
        """None where all is well."""
        self._guarded(self._open)
        receiver = threading.Thread(target=self._guarded, args=(self._receive,), daemon=True)

        def send() -> None:
            try:
                self._send()
            except StreamFailure as failure:
                if failure.end is End.LOST:  # the other end may have said why, which is still to be read
                    receiver.join(TELLING_S)
                raise

        sender = threading.Thread(target=self._guarded, args=(send,), daemon=True)
        threads = [receiver, sender]
        if self._idle_s is not None:
            threads.append(threading.Thread(target=self._watch, args=(self._idle_s,), daemon=True))
        for thread in threads:
            thread.start()
        while (sender.is_alive() or receiver.is_alive()) and self._failure is None:
            receiver.join(JOIN_S)
            sender.join(JOIN_S)
        if self._failure is None:
            self._say_goodbye()
        self._finished.set()
        self._give_up(threads)
        return self._failure

    def _give_up(self, threads: list[threading.Thread]) -> None:
        """A thread may hang for ever in a write that nobody reads: it keeps what it uses."""
        for thread in threads:
            thread.join(FAILED_JOIN_S)
        if not any(thread.is_alive() for thread in threads):
            self._connection.close()
            self._wakeup.close()

    def cancel(self, end: End = End.CANCELLED, message: str = "cancelled") -> None:
        self._fail(StreamFailure(end, message))

    # For subclasses: what comes first, the two directions, and what is in front of and behind data.

    head_len = 0

    def _head(self, length: int) -> bytes:
        """head_len bytes, in front of so many of data."""
        return b""

    def _send_end(self) -> None:
        """The source has no more."""
        raise NotImplementedError

    def _open(self) -> None:
        prepare(self._connection, self._lost_after_s)

    def unheard_s(self) -> float:
        """How long nothing has come from the other end, not even that it has what we sent."""
        return unheard_s(self._connection)

    def _receive(self) -> None:
        raise NotImplementedError

    def _tell_ended(self, status: int) -> None:
        """Let the other end know that our command has ended."""

    def _tell(self, failure: StreamFailure) -> None:
        """Let the other end know of a failure of ours."""

    # What they share.

    def _send(self) -> None:
        if self._source is not None and self._source.is_pipe:
            self._send_pipe()
        else:
            self._send_copies()
        if self._command is not None:
            self._end_with(self._command)
        if self._failure is None:
            self._send_end()

    def _end_with(self, command: Command) -> None:
        """Its output is over, or not wanted; its end may come later."""

        def is_over() -> bool:
            return self._failure is not None

        if self._source is not None:
            with contextlib.suppress(OSError):
                self._source.drain(memoryview(bytearray(DRAIN_LEN)), is_over)
        status = command.wait(is_over)
        if status is not None:
            self._drops = True
            self.status = status
            self._tell_ended(status)

    def _send_pipe(self) -> None:
        conduit = Conduit()
        try:
            while read := self._read(lambda source: conduit.fill_from(source.fd)):
                self._splice(conduit, read)
                self.sent += read
        finally:
            conduit.close()

    def _send_copies(self) -> None:
        room = memoryview(bytearray(self.head_len + BUFFER_LEN))
        payload = room[self.head_len :]
        while read := self._read(lambda source: source.read_into(payload)):
            room[: self.head_len] = self._head(read)
            self._put(room[: self.head_len + read])
            self.sent += read

    def _read(self, take: Callable[[Source], int]) -> int:
        """From the source; 0: its end, or nothing is wanted of it any more."""
        source = self._source
        if source is None or source.fd < 0 or not source.wait(self._wakeup):
            return 0
        try:
            read = take(source)
        except OSError as error:
            raise StreamFailure(End.LOCAL_ERROR, f"cannot read: {error.strerror}") from error
        self._moved_at = time.monotonic()
        return read

    def _splice(self, conduit: Conduit, length: int) -> None:
        """Bytes of a pipe to the connection, without a copy here."""
        try:
            if head := self._head(length):
                self._connection.sendall(head, socket.MSG_MORE)
            conduit.empty_into(self._connection, length)
        except OSError as error:
            raise lost(error) from error

    def _guarded(self, direction: Callable[[], None]) -> None:
        try:
            direction()
        except StreamFailure as failure:
            self._fail(failure)
        except BadFrame as error:
            self._fail(StreamFailure(End.PROTOCOL, str(error)))
        except Exception as error:  # a thread must not end without anybody knowing
            self._fail(StreamFailure(End.LOCAL_ERROR, f"{type(error).__name__}: {error}"))

    def _fail(self, failure: StreamFailure) -> None:
        with self._lock:
            if self._failure is not None or self._finished.is_set():
                return
            self._failure = failure
        if failure.end in (End.LOCAL_ERROR, End.CANCELLED):
            self._tell(failure)
            wait_for_end(self._connection, TELLING_S)
        self._wakeup.wake()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _write(self, data: memoryview) -> None:
        if self._sink is not None and not self._drops:
            try:
                self._sink.write(data)
            except BrokenPipeError as error:
                self._drops = self._command is not None  # which has ended, or reads no more
                if not self._drops:
                    raise StreamFailure(End.LOCAL_ERROR, f"cannot write: {error.strerror}") from error
            except OSError as error:
                raise StreamFailure(End.LOCAL_ERROR, f"cannot write: {error.strerror}") from error
        self.received += len(data)
        self._moved_at = time.monotonic()

    def _close_sink(self) -> None:
        if self._sink is not None:
            try:
                self._sink.close()
            except OSError as error:
                raise StreamFailure(End.LOCAL_ERROR, f"cannot write: {error.strerror}") from error

    def _put(self, data: bytes | memoryview) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise lost(error) from error

    def _take(self, buffer: memoryview) -> int:
        try:
            return self._connection.recv_into(buffer)
        except OSError as error:
            raise lost(error) from error

    def _peer_has_no_more(self) -> None:
        if self._ends_with_peer and self.sent == 0:
            self._wakeup.wake()

    def _watch(self, idle_s: float) -> None:
        while not self._finished.wait(max(0.05, self._moved_at + idle_s - time.monotonic())):
            if self._failure is not None:
                return
            if time.monotonic() - self._moved_at >= idle_s:
                self._fail(StreamFailure(End.LOST, f"nothing moved for {idle_s:g} s"))
                return

    def _say_goodbye(self) -> None:
        """All is done. The tunnel may end with this process, so the last bytes must be over before."""
        if wait_for_end(self._connection, FAREWELL_S):
            wait_for_acknowledgement(self._connection, LAST_ACK_S)
