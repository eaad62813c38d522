"""A stream between two of us: it knows that the other end has written everything (protocol.md section 11)."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from hashlib import blake2b
from hmac import compare_digest

from wh.streams import frames
from wh.streams.connection import LOST_AFTER_S, read_exactly, wait_for_end
from wh.streams.endpoints import Command, Conduit, Sink, Source
from wh.streams.failure import End, StreamFailure
from wh.streams.frames import DIGEST_LEN, HEADER_LEN, BadFrame, Have, Kind, Reason, Terms
from wh.streams.stream import BUFFER_LEN, TELLING_S, Stream


class FramedStream(Stream):
    head_len = HEADER_LEN

    def __init__(
        self,
        connection: socket.socket,
        source: Source | None,
        sink: Sink | None,
        *,
        idle_s: float | None = None,
        ends_with_peer: bool = False,
        command: Command | None = None,
        target: str = "",
        greeted: bool = False,
        announced: bool = False,
        datagrams: bool = False,
        beginning: Have | None = None,
        lost_after_s: float = LOST_AFTER_S,
    ) -> None:
        """target: what the other end shall join its end to; "": its own streams. greeted, announced: its
        HELLO has been read, ours sent. datagrams: each read and each write is one. beginning: of what comes,
        that the sink has already."""
        super().__init__(
            connection,
            source,
            sink,
            idle_s=idle_s,
            ends_with_peer=ends_with_peer,
            command=command,
            lost_after_s=lost_after_s,
        )
        self._beginning = beginning
        self._theirs: Have | None = None
        self._met = threading.Event()  # it is known where to begin, or that nothing does
        if greeted:
            self._met.set()
        self._target = target
        self._greeted = greeted
        self._announced = announced
        self._datagrams = datagrams
        self._sending = threading.Lock()
        self._acknowledged = threading.Event()

    def _open(self) -> None:
        super()._open()
        if self._announced:
            return
        terms = Terms(0) if self._sink is not None else Terms.TAKES_NOTHING
        if self._beginning is not None:
            self._put(frames.hello(terms | Terms.RESUMES, self._target) + frames.have(*self._beginning))
        else:
            self._put(frames.hello(terms, self._target))

    def _send(self) -> None:
        """Not before the other end has said where to begin."""
        self._met.wait()
        if self._failure is not None:
            return
        if self._theirs is not None:
            self._skip(self._theirs)
        super()._send()

    def _fail(self, failure: StreamFailure) -> None:
        super()._fail(failure)
        self._met.set()

    def _skip(self, theirs: Have) -> None:
        """Raises StreamFailure where what the other end has is not ours."""
        found = blake2b(digest_size=DIGEST_LEN)
        room = memoryview(bytearray(BUFFER_LEN))
        while self.skipped < theirs.total:
            part = room[: min(BUFFER_LEN, theirs.total - self.skipped)]
            read = self._read(lambda source, part=part: source.read_into(part))  # type: ignore[misc]
            if not read:
                break
            found.update(part[:read])
            self.skipped += read
        if self.skipped != theirs.total or not compare_digest(found.digest(), theirs.digest):
            raise StreamFailure(
                End.LOCAL_ERROR, "what is there to be resumed is not the beginning of what is sent"
            )

    def _head(self, length: int) -> bytes:
        return frames.header(Kind.DATA, length)

    def _send_end(self) -> None:
        self._put(frames.count(Kind.EOF, self.sent))

    def _splice(self, conduit: Conduit, length: int) -> None:
        with self._sending:
            super()._splice(conduit, length)

    def _put(self, data: bytes | memoryview) -> None:
        with self._sending:
            super()._put(data)

    def _receive(self) -> None:
        reader = _FrameReader(self._take)
        if not self._greeted:
            self._take_hello(reader)
        ended = False
        while not (ended and self._acknowledged.is_set()):
            kind, length = reader.header()
            if kind is Kind.DATA and not ended:
                for part in (reader.body(length),) if self._datagrams else reader.parts(length):
                    self._write(memoryview(part))
                continue
            body = reader.body(length)
            if kind is Kind.EOF and not ended:
                self._take_end(frames.decode_count_untrusted(body))
                ended = True
            elif kind is Kind.ACK:
                if frames.decode_count_untrusted(body) != self.sent or self._acknowledged.is_set():
                    raise BadFrame("the other end acknowledges what was not sent")
                self._acknowledged.set()
            elif kind is Kind.ENDED and not ended:
                self._take_status(frames.decode_ended_untrusted(body))
            elif kind is Kind.FAILED:
                raise _remote_failure(body)
            else:
                raise BadFrame(f"a {kind.name} frame out of place")

    def _take_hello(self, reader: _FrameReader) -> None:
        kind, length = reader.header()
        terms, target = _hello_of(kind, reader.body(length))
        if target:
            refusal = "does not forward: it needs --allow-forward"
            self._put(frames.failed(Reason.REFUSED, refusal))
            wait_for_end(self._connection, TELLING_S)
            raise StreamFailure(
                End.PROTOCOL, "the other end asked for a forward, which --allow-forward allows"
            )
        if terms & Terms.RESUMES:
            kind, length = reader.header()
            if kind is not Kind.HAVE:
                raise BadFrame(f"a {kind.name} frame in place of what is there")
            self._theirs = frames.decode_have_untrusted(reader.body(length))
        if terms & Terms.TAKES_NOTHING:
            self._wakeup.wake()
        self._met.set()

    def _take_end(self, total: int) -> None:
        if total != self.received:
            raise StreamFailure(End.LOST, f"{self.received} bytes arrived of {total}")
        self._close_sink()
        self._put(frames.count(Kind.ACK, total))
        self._peer_has_no_more()

    def _take_status(self, status: int) -> None:
        """Of the other end's command, which reads no more."""
        if self._command is None:
            self.status = status
        self._wakeup.wake()

    def _tell_ended(self, status: int) -> None:
        self._put(frames.ended(status))

    def _tell(self, failure: StreamFailure) -> None:
        """Only where no frame is half sent, and the connection takes it soon."""
        if not self._sending.acquire(timeout=TELLING_S):
            return
        try:
            with contextlib.suppress(OSError):
                select.select([], [self._connection], [], TELLING_S)
                reason = Reason.IO if failure.end is End.LOCAL_ERROR else Reason.STOPPED
                self._connection.send(frames.failed(reason, str(failure)), socket.MSG_DONTWAIT)
        finally:
            self._sending.release()


def read_hello(connection: socket.socket, patience_s: float) -> frames.Hello:
    """The first frame, and nothing behind it. Raises OSError and BadFrame; StreamFailure where the other end
    refuses or goes."""
    connection.settimeout(patience_s)
    kind, length = frames.decode_header_untrusted(read_exactly(connection, HEADER_LEN))
    body = read_exactly(connection, length)
    connection.settimeout(None)
    return _hello_of(kind, body)


class _FrameReader:
    """Cuts what `take` receives into frames, with one buffer and without copies of data."""

    def __init__(self, take: Callable[[memoryview], int]) -> None:
        self._take = take
        self._room = memoryview(bytearray(BUFFER_LEN))
        self._at = 0
        self._end = 0

    def header(self) -> frames.Header:
        self._need(HEADER_LEN)
        self._at += HEADER_LEN
        return frames.decode_header_untrusted(self._room[self._at - HEADER_LEN : self._at])

    def body(self, length: int) -> bytes:
        self._need(length)
        self._at += length
        return bytes(self._room[self._at - length : self._at])

    def parts(self, length: int) -> Iterator[memoryview]:
        """The bytes of a frame as they come in; each part is good until the next."""
        while length:
            if self._at == self._end:
                self._at = self._end = 0
                self._fill()
            part = self._room[self._at : min(self._end, self._at + length)]
            self._at += len(part)
            length -= len(part)
            yield part

    def _need(self, length: int) -> None:
        while self._end - self._at < length:
            if self._at and (self._at == self._end or len(self._room) - self._at < length):
                rest = bytes(self._room[self._at : self._end])
                self._room[: len(rest)] = rest
                self._at, self._end = 0, len(rest)
            self._fill()

    def _fill(self) -> None:
        taken = self._take(self._room[self._end :])
        if not taken:
            raise StreamFailure(End.LOST, "the other end went away in mid-stream")
        self._end += taken


def _hello_of(kind: Kind, body: bytes) -> frames.Hello:
    """Of the first frame. Raises BadFrame; StreamFailure where the other end refuses."""
    if kind is Kind.FAILED:
        raise _remote_failure(body)
    if kind is not Kind.HELLO:
        raise BadFrame("the other end does not say HELLO")
    return frames.decode_hello_untrusted(body)


def _remote_failure(body: bytes) -> StreamFailure:
    """Raises BadFrame."""
    reason, text = frames.decode_failed_untrusted(body)
    end = End.LOST if reason == Reason.STOPPED else End.REMOTE_ERROR
    return StreamFailure(end, f"the other end {text}" if text else "the other end failed")
