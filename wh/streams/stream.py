"""One stream: a local source and sink joined to a TCP connection, until both directions are done.

Two threads, one a direction, and blocking calls: each side waits for the slower one, and a direction that
stands still does not hold up the other. FramedStream is for two of us: it knows that the other end has
written everything. PlainStream is for any other TCP program, and knows that its kernel has everything.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum

from wh.streams import frames
from wh.streams.endpoints import Conduit, Sink, Source, Wakeup
from wh.streams.frames import HEADER_LEN, BadFrame, Kind, Reason, Terms

BUFFER_LEN = 1 << 20
FAREWELL_S = 10.0
"""How long the end of the other side is awaited once all is done and acknowledged."""

LAST_ACK_S = 1.0
"""How long after that for the word that the other side has our end too. Without it, it has gone already."""

LOST_AFTER_S = 60
"""Without an answer of the other end's TCP. Paths are mended in a few seconds."""

TELLING_S = 0.5
"""At most, for each step of telling the other end why we stop."""

HANG_UP_S = 2.0
"""At most, for the other end to have what we said last; there is nothing else to wait for."""

JOIN_S = 0.2
FAILED_JOIN_S = 1.0
POLL_S = 0.002

CONGESTION_CONTROL = b"bbr"
"""Where the kernel has it: a loss says nothing of the rate to it, and much to the usual ones."""

_TCP_KEEPIDLE_S, _TCP_KEEPINTVL_S = 10, 5
_LOST_ERRORS = frozenset(
    {
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
    }
)


class End(Enum):
    """How a stream ended."""

    DONE = "done"  # all bytes of both directions are where they should be
    LOCAL_ERROR = "local error"  # our own source or sink failed
    REMOTE_ERROR = "remote error"  # the other end's did
    LOST = "lost"  # the connection broke, or said nothing for too long
    PROTOCOL = "protocol"  # the other end is no 0nc
    CANCELLED = "cancelled"


class StreamFailure(Exception):
    def __init__(self, end: End, message: str) -> None:
        super().__init__(message)
        self.end = end


def prepare(connection: socket.socket) -> None:
    """What a connection needs that must be fast on bad wires, and notice the loss of its peer."""
    connection.setblocking(True)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _TCP_KEEPIDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _TCP_KEEPINTVL_S)
    count = (LOST_AFTER_S - _TCP_KEEPIDLE_S) // _TCP_KEEPINTVL_S
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * LOST_AFTER_S)
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)


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
    ) -> None:
        """Takes ownership of the connection. source, sink: None for a direction that is not wanted.
        idle_s: end it where no byte of data moved for so long. ends_with_peer: where nothing was read from
        the source when the other end has no more to say, we have not either (a terminal that nobody types
        on)."""
        self.sent = 0
        self.received = 0
        self._connection = connection
        self._source = source
        self._sink = sink
        self._idle_s = idle_s
        self._ends_with_peer = ends_with_peer
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

    # For subclasses: what comes first, and the two directions.

    def _open(self) -> None:
        prepare(self._connection)

    def _send(self) -> None:
        raise NotImplementedError

    def _receive(self) -> None:
        raise NotImplementedError

    def _tell(self, failure: StreamFailure) -> None:
        """Let the other end know of a failure of ours."""

    # What they share.

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
            self._let_it_arrive()
        self._wakeup.wake()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _read(self, buffer: memoryview) -> int:
        """From the source; 0: its end, or nothing is wanted of it any more."""
        source = self._source
        if source is None or source.fd < 0 or not source.wait(self._wakeup):
            return 0
        try:
            read = source.read_into(buffer)
        except OSError as error:
            raise StreamFailure(End.LOCAL_ERROR, f"cannot read: {error.strerror}") from error
        self._moved_at = time.monotonic()
        return read

    def _fill(self, conduit: Conduit, source: Source) -> int:
        """As _read(), from a pipe."""
        if not source.wait(self._wakeup):
            return 0
        try:
            read = conduit.fill_from(source.fd)
        except OSError as error:
            raise StreamFailure(End.LOCAL_ERROR, f"cannot read: {error.strerror}") from error
        self._moved_at = time.monotonic()
        return read

    def _write(self, data: memoryview) -> None:
        if self._sink is not None:
            try:
                self._sink.write(data)
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
            raise _lost(error) from error

    def _take(self, buffer: memoryview) -> int:
        try:
            return self._connection.recv_into(buffer)
        except OSError as error:
            raise _lost(error) from error

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
        deadline = time.monotonic() + FAREWELL_S
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        with contextlib.suppress(OSError):
            while (left := deadline - time.monotonic()) > 0:
                if poll.poll(1000 * left) and not self._connection.recv(4096):
                    break
            self._wait_for_acknowledgement(LAST_ACK_S)

    def _let_it_arrive(self) -> None:
        """Data that comes in now would be answered with a reset, which may overtake what we said."""
        deadline = time.monotonic() + TELLING_S
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                if select.select([self._connection], [], [], left)[0] and not self._connection.recv(1 << 16):
                    return

    def _wait_for_acknowledgement(self, patience_s: float) -> bool:
        """Whether the other kernel has everything that we sent."""
        deadline = time.monotonic() + patience_s
        with contextlib.suppress(OSError):
            while _unacknowledged(self._connection):
                if time.monotonic() >= deadline:
                    return False
                time.sleep(POLL_S)
        return True


class FramedStream(Stream):
    """Between two 0nc: docs/protocol.md section 11."""

    def __init__(
        self,
        connection: socket.socket,
        source: Source | None,
        sink: Sink | None,
        *,
        idle_s: float | None = None,
        ends_with_peer: bool = False,
        target: str = "",
        greeted: bool = False,
        announced: bool = False,
        datagrams: bool = False,
    ) -> None:
        """target: what the other end shall join its end to; "": its own streams. greeted, announced: its
        HELLO has been read, ours sent. datagrams: each read and each write is one."""
        super().__init__(connection, source, sink, idle_s=idle_s, ends_with_peer=ends_with_peer)
        self._target = target
        self._greeted = greeted
        self._announced = announced
        self._datagrams = datagrams
        self._sending = threading.Lock()
        self._acknowledged = threading.Event()

    def _open(self) -> None:
        super()._open()
        if not self._announced:
            self._put(frames.hello(0 if self._sink is not None else Terms.TAKES_NOTHING, self._target))

    def _send(self) -> None:
        if self._source is not None and self._source.is_pipe:
            self._send_pipe(self._source)
        else:
            self._send_copies()
        if self._failure is None:
            self._put(frames.count(Kind.EOF, self.sent))

    def _send_pipe(self, source: Source) -> None:
        conduit = Conduit()
        try:
            while read := self._fill(conduit, source):
                with self._sending:
                    self._send_frame(frames.header(Kind.DATA, read), conduit, read)
                self.sent += read
        finally:
            conduit.close()

    def _send_frame(self, header: bytes, conduit: Conduit, length: int) -> None:
        try:
            self._connection.sendall(header, socket.MSG_MORE)
            conduit.empty_into(self._connection, length)
        except OSError as error:
            raise _lost(error) from error

    def _send_copies(self) -> None:
        room = bytearray(HEADER_LEN + BUFFER_LEN)
        view = memoryview(room)
        payload = view[HEADER_LEN:]
        while read := self._read(payload):
            room[:HEADER_LEN] = frames.header(Kind.DATA, read)
            self._put(view[: HEADER_LEN + read])
            self.sent += read

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
            elif kind is Kind.FAILED:
                raise _remote_failure(body)
            else:
                raise BadFrame(f"a {kind.name} frame out of place")

    def _take_hello(self, reader: _FrameReader) -> None:
        kind, length = reader.header()
        body = reader.body(length)
        if kind is Kind.FAILED:
            raise _remote_failure(body)
        if kind is not Kind.HELLO:
            raise BadFrame("the other end does not say HELLO")
        terms, target = frames.decode_hello_untrusted(body)
        if target:
            refusal = "does not forward: it needs --allow-forward"
            self._put(frames.failed(Reason.REFUSED, refusal))
            self._let_it_arrive()
            raise StreamFailure(
                End.PROTOCOL, "the other end asked for a forward, which --allow-forward allows"
            )
        if terms & Terms.TAKES_NOTHING:
            self._wakeup.wake()

    def _take_end(self, total: int) -> None:
        if total != self.received:
            raise StreamFailure(End.LOST, f"{self.received} bytes arrived of {total}")
        self._close_sink()
        self._put(frames.count(Kind.ACK, total))
        self._peer_has_no_more()

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


class PlainStream(Stream):
    """To any TCP program: FIN is the end of a direction."""

    def _send(self) -> None:
        if self._source is not None and self._source.is_pipe:
            self._send_pipe(self._source)
        else:
            view = memoryview(bytearray(BUFFER_LEN))
            while read := self._read(view):
                self._put(view[:read])
                self.sent += read
        if self._failure is None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)

    def _send_pipe(self, source: Source) -> None:
        conduit = Conduit()
        try:
            while read := self._fill(conduit, source):
                try:
                    conduit.empty_into(self._connection, read)
                except OSError as error:
                    raise _lost(error) from error
                self.sent += read
        finally:
            conduit.close()

    def _receive(self) -> None:
        view = memoryview(bytearray(BUFFER_LEN))
        while taken := self._take(view):
            self._write(view[:taken])
        self._close_sink()
        self._peer_has_no_more()

    def _say_goodbye(self) -> None:
        """What the other kernel has not acknowledged may be lost, and nobody else would notice."""
        if not self._wait_for_acknowledgement(LOST_AFTER_S):
            self._failure = StreamFailure(End.LOST, "the other end takes no more")
            return
        number = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number in _LOST_ERRORS:
            self._failure = StreamFailure(End.LOST, f"the connection broke: {os.strerror(number)}")


def read_hello(connection: socket.socket, patience_s: float) -> frames.Hello:
    """The first frame, and nothing behind it. Raises OSError and BadFrame; StreamFailure where the other end
    refuses or goes."""
    connection.settimeout(patience_s)
    kind, length = frames.decode_header_untrusted(_read_exactly(connection, HEADER_LEN))
    body = _read_exactly(connection, length)
    connection.settimeout(None)
    if kind is Kind.FAILED:
        raise _remote_failure(body)
    if kind is not Kind.HELLO:
        raise BadFrame("the other end does not say HELLO")
    return frames.decode_hello_untrusted(body)


def hang_up(connection: socket.socket) -> None:
    """Close a connection that no stream has taken. The tunnel may end with this process, so the other end
    must have everything before."""
    deadline = time.monotonic() + HANG_UP_S
    with contextlib.suppress(OSError), connection:
        connection.shutdown(socket.SHUT_WR)
        while _unacknowledged(connection) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def _read_exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise StreamFailure(End.LOST, "the other end went away")
        data += part
    return data


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


def _lost(error: OSError) -> StreamFailure:
    if error.errno in _LOST_ERRORS or error.errno is None:
        return StreamFailure(End.LOST, f"the connection broke: {error.strerror or error}")
    return StreamFailure(End.LOCAL_ERROR, f"the connection failed: {error.strerror}")


def _unacknowledged(connection: socket.socket) -> int:
    """Bytes, and a FIN, that the other kernel has not acknowledged (tcp(7), SIOCOUTQ)."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])


def _remote_failure(body: bytes) -> StreamFailure:
    """Raises BadFrame."""
    reason, text = frames.decode_failed_untrusted(body)
    end = End.LOST if reason == Reason.STOPPED else End.REMOTE_ERROR
    return StreamFailure(end, f"the other end {text}" if text else "the other end failed")
