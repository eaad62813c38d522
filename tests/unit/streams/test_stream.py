"""Streams over real sockets and pipes: every byte arrives, or both ends know that some did not."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.streams import frames
from wh.streams.connection import CONGESTION_CONTROL, prepare
from wh.streams.endpoints import Sink, Source
from wh.streams.failure import End, StreamFailure
from wh.streams.framed import FramedStream
from wh.streams.frames import DIGEST_LEN, BadFrame, Have, Kind, Reason
from wh.streams.plain import PlainStream
from wh.streams.stream import Stream
from whtools.znc.local_ends import command_ends

PATIENCE_S = 20
POOL = ThreadPoolExecutor(16)


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


def congestion_control_of(connection: socket.socket) -> bytes:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def test_a_connection_is_prepared_for_lossy_wires_where_the_kernel_can() -> None:
    known = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_bytes().split()
    with contextlib.ExitStack() as stack:
        client, server = map(stack.enter_context, connected())
        usual = congestion_control_of(client)
        prepare(client)
        if CONGESTION_CONTROL in known:
            assert congestion_control_of(client) == CONGESTION_CONTROL
        else:
            assert congestion_control_of(client) in (usual, CONGESTION_CONTROL)
        client.sendall(b"as before")
        assert server.recv(100) == b"as before"


class Side:
    """A program at one end: it writes `script` (chunks, and pauses in ms) into the stream, and reads it."""

    def __init__(self, kind: type[Stream], connection: socket.socket, **options: object) -> None:
        read_end, self.input = os.pipe()
        self.output, write_end = os.pipe()
        self.source, self.sink = Source(read_end, owned=True), Sink(write_end)
        self.stream = kind(connection, self.source, self.sink, **options)  # type: ignore[arg-type]

    def write(self, script: list[bytes | float]) -> None:
        try:
            for step in script:
                if isinstance(step, bytes):
                    with contextlib.suppress(BrokenPipeError):
                        _write_all(self.input, step)
                else:
                    time.sleep(step)  # a part of the traffic that is tested, not a wait for something
        finally:
            os.close(self.input)

    def read(self) -> bytes:
        found = bytearray()
        with os.fdopen(self.output, "rb", buffering=0) as pipe:
            while part := pipe.read(1 << 16):
                found += part
        return bytes(found)

    def run(self) -> End:
        failure = self.stream.run()
        self.sink.close()
        self.source.close()
        return End.DONE if failure is None else failure.end


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def converse(kind: type[Stream], scripts: list[list[bytes | float]]) -> tuple[list[End], list[bytes]]:
    """How both ends ended, and what came out at each."""
    sides = [Side(kind, connection) for connection in connected()]
    writers = [POOL.submit(side.write, script) for side, script in zip(sides, scripts, strict=True)]
    readers = [POOL.submit(side.read) for side in sides]
    runs = [POOL.submit(side.run) for side in sides]
    ends = [run.result(PATIENCE_S) for run in runs]
    for writer in writers:
        writer.result(PATIENCE_S)
    return ends, [reader.result(PATIENCE_S) for reader in readers]


def bytes_of(script: list[bytes | float]) -> bytes:
    return b"".join(step for step in script if isinstance(step, bytes))


chunks = st.builds(
    lambda size, seed: random.Random(seed).randbytes(size),  # noqa: S311
    st.one_of(
        st.integers(0, 40), st.integers(0, 300_000), st.sampled_from([1 << 16, 1 << 20, (1 << 20) + 5])
    ),
    st.integers(0, 1000),
)
scripts = st.lists(st.one_of(chunks, st.floats(0, 0.01)), max_size=6)


@pytest.mark.parametrize("kind", [FramedStream, PlainStream])
def test_both_directions_arrive_whole_whatever_the_sizes_pauses_and_ends(kind: type[Stream]):
    @settings(max_examples=500 if kind is FramedStream else 100, deadline=None, derandomize=True)
    @given(st.tuples(scripts, scripts))
    def check(pair: tuple[list[bytes | float], list[bytes | float]]) -> None:
        ends, received = converse(kind, list(pair))
        assert ends == [End.DONE, End.DONE]
        assert received == [bytes_of(pair[1]), bytes_of(pair[0])]

    check()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(chunks, st.integers(0, 400_000))
def test_a_connection_that_breaks_is_never_a_success(data: bytes, breaks_after: int):
    """The peer vanishes after some bytes of ours, which may be all of them, but acknowledges none."""
    connection, peer = connected()
    side = Side(FramedStream, connection)
    writer, reader, run = POOL.submit(side.write, [data]), POOL.submit(side.read), POOL.submit(side.run)
    peer.sendall(frames.hello())
    left = min(breaks_after, len(data))
    while left > 0 and (part := peer.recv(min(left, 1 << 16))):
        left -= len(part)
    peer.close()
    assert run.result(PATIENCE_S) is End.LOST
    writer.result(PATIENCE_S)
    reader.result(PATIENCE_S)


def test_a_truncated_stream_is_lost_for_its_reader_too():
    connection, peer = connected()
    side = Side(FramedStream, connection)
    writer, reader, run = POOL.submit(side.write, []), POOL.submit(side.read), POOL.submit(side.run)
    peer.sendall(frames.hello() + frames.header(Kind.DATA, 100) + bytes(50))
    peer.close()
    assert run.result(PATIENCE_S) is End.LOST
    writer.result(PATIENCE_S)
    assert reader.result(PATIENCE_S) == bytes(50)


def test_a_count_that_does_not_match_is_lost():
    connection, peer = connected()
    side = Side(FramedStream, connection)
    runs = [POOL.submit(side.write, []), POOL.submit(side.read)]
    run = POOL.submit(side.run)
    peer.sendall(frames.hello() + frames.header(Kind.DATA, 3) + b"abc" + frames.count(Kind.EOF, 4))
    assert run.result(PATIENCE_S) is End.LOST
    for each in runs:
        each.result(PATIENCE_S)
    peer.close()


def test_a_direction_ends_for_its_reader_while_the_other_goes_on():
    first, second = (Side(FramedStream, connection) for connection in connected())
    runs = [POOL.submit(first.run), POOL.submit(second.run)]
    first.write([b"question"])
    assert second.read() == b"question"
    second.write([b"answer"])
    assert first.read() == b"answer"
    assert [run.result(PATIENCE_S) for run in runs] == [End.DONE, End.DONE]


@pytest.fixture
def full() -> Iterator[int]:
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd


def test_a_full_disk_fails_both_ends(full: int):
    first, second = connected()
    sender = Side(FramedStream, first)
    failing = FramedStream(second, None, Sink(full))
    jobs = [POOL.submit(sender.write, [bytes(100_000)]), POOL.submit(sender.read)]
    runs = [POOL.submit(sender.run), POOL.submit(failing.run)]
    assert runs[0].result(PATIENCE_S) is End.REMOTE_ERROR
    failure = runs[1].result(PATIENCE_S)
    assert isinstance(failure, Exception) and "No space left" in str(failure)
    for job in jobs:
        job.result(PATIENCE_S)


def test_a_closed_pipe_fails_both_ends():
    first, second = (Side(FramedStream, connection) for connection in connected())
    os.close(second.output)
    jobs = [POOL.submit(first.write, [bytes(3_000_000)]), POOL.submit(first.read)]
    runs = [POOL.submit(first.run), POOL.submit(second.run)]
    assert runs[1].result(PATIENCE_S) is End.LOCAL_ERROR
    assert runs[0].result(PATIENCE_S) in (End.REMOTE_ERROR, End.LOST)
    os.close(second.input)
    for job in jobs:
        job.result(PATIENCE_S)


def test_a_reader_that_stands_still_holds_the_writer_up():
    first, second = (Side(FramedStream, connection) for connection in connected())
    runs = [POOL.submit(first.run), POOL.submit(second.run)]
    total = 64 << 20
    writer = POOL.submit(first.write, [bytes(total)])
    time.sleep(0.5)  # in which nothing is read
    assert first.stream.sent < total
    os.close(second.input)
    assert len(second.read()) == total
    assert first.read() == b""
    writer.result(PATIENCE_S)
    assert [run.result(PATIENCE_S) for run in runs] == [End.DONE, End.DONE]


def test_cancelling_tells_the_other_end_even_where_nobody_reads():
    first, second = (Side(FramedStream, connection) for connection in connected())
    runs = [POOL.submit(first.run), POOL.submit(second.run)]
    writer = POOL.submit(second.write, [bytes(16 << 20)])
    wait_for(lambda: first.stream.received > 0)
    first.stream.cancel(message="was interrupted")
    assert runs[0].result(PATIENCE_S) is End.CANCELLED
    assert runs[1].result(PATIENCE_S) in (End.REMOTE_ERROR, End.LOST)
    os.close(first.input)
    first.read()
    second.read()
    writer.result(PATIENCE_S)


def test_silence_ends_a_stream_that_was_told_so():
    first, second = connected()
    side = Side(FramedStream, first, idle_s=0.2)
    started = time.monotonic()
    second.sendall(frames.hello())
    assert side.run() is End.LOST
    assert time.monotonic() - started >= 0.2
    second.close()
    os.close(side.input)
    side.read()


def test_who_takes_nothing_gets_nothing_and_both_end_well():
    first, second = connected()
    side = Side(FramedStream, first)
    only_sending = Source(os.memfd_create("data"), owned=True)
    os.pwrite(only_sending.fd, b"abc", 0)
    other = FramedStream(second, only_sending, None)
    runs = [POOL.submit(side.run), POOL.submit(other.run)]
    assert side.read() == b"abc"
    assert runs[0].result(PATIENCE_S) is End.DONE  # although its input is open
    assert runs[1].result(PATIENCE_S) is None
    os.close(side.input)


def test_a_terminal_that_nobody_types_on_ends_with_the_other_end():
    first, second = connected()
    side = Side(FramedStream, first, ends_with_peer=True)
    other = Side(FramedStream, second)
    runs = [POOL.submit(side.run), POOL.submit(other.run)]
    other.write([b"abc"])
    assert side.read() == b"abc"
    assert [run.result(PATIENCE_S) for run in runs] == [End.DONE, End.DONE]
    os.close(side.input)
    other.read()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_hostile_bytes_end_the_stream_and_nothing_else(data: bytes):
    connection, peer = connected()
    stream = FramedStream(connection, None, None)
    run = POOL.submit(stream.run)
    with contextlib.suppress(OSError):
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
    failure = run.result(PATIENCE_S)
    peer.close()
    assert failure is not None and failure.end in (End.PROTOCOL, End.LOST, End.REMOTE_ERROR)


def test_what_a_terminal_might_obey_is_not_printed():
    connection, peer = connected()
    run = POOL.submit(FramedStream(connection, None, None).run)
    peer.sendall(frames.failed(Reason.IO, "\x1b[2J gone"))
    failure = run.result(PATIENCE_S)
    assert failure is not None and "\x1b" not in str(failure)
    peer.close()


@pytest.mark.parametrize(
    "decode",
    [
        lambda: frames.decode_header_untrusted(b"\x09\0\0\0"),
        lambda: frames.decode_header_untrusted(b"\x02\xff\xff\xff"),
        lambda: frames.decode_header_untrusted(b"\x01\xff\xff\xff"),
        lambda: frames.decode_hello_untrusted(b""),
        lambda: frames.decode_hello_untrusted(b"\x02\0"),
        lambda: frames.decode_hello_untrusted(b"\x01\0\xff"),
        lambda: frames.decode_count_untrusted(b"1234567"),
        lambda: frames.decode_failed_untrusted(b""),
    ],
)
def test_malformed_frames_are_refused(decode: Callable[[], object]):
    with pytest.raises(BadFrame):
        decode()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def resume(
    source: int, there: bytes, total: int | None = None
) -> tuple[list[StreamFailure | None], bytes, int]:
    """How both ends end where one has `there` already; what else comes, and how much is skipped."""
    ours, theirs = connected()
    read_end, write_end = os.pipe()
    beginning = Have(len(there) if total is None else total, blake2b(there, digest_size=DIGEST_LEN).digest())
    sender = FramedStream(ours, Source(source), None)
    receiver = FramedStream(theirs, None, Sink(write_end), beginning=beginning)
    with os.fdopen(read_end, "rb") as pipe:
        reading = POOL.submit(pipe.read)
        runs = [POOL.submit(sender.run), POOL.submit(receiver.run)]
        ends = [run.result(PATIENCE_S) for run in runs]
        with contextlib.suppress(OSError):
            os.close(write_end)
        return ends, reading.result(PATIENCE_S), sender.skipped


@pytest.mark.parametrize("kind", ["file", "pipe"])
@pytest.mark.parametrize("length", [0, 5, 1_500_000, 3_000_000])
def test_what_is_there_is_skipped(tmp_path: Path, kind: str, length: int) -> None:
    data = random.Random(length).randbytes(3_000_000)  # noqa: S311
    (tmp_path / "data").write_bytes(data)
    with (tmp_path / "data").open("rb") as file:
        source = file.fileno()
        if kind == "pipe":
            source, write_end = os.pipe()
            POOL.submit(lambda: (_type(write_end, data), os.close(write_end)))
        ends, rest, skipped = resume(source, data[:length])
    assert ends == [None, None]
    assert data[:length] + rest == data
    assert skipped == length


@pytest.mark.parametrize(("there", "total"), [(b"another beginning", None), (b"the beg", 1 << 40)])
def test_what_is_there_and_something_else_is_not_continued(
    tmp_path: Path, there: bytes, total: int | None
) -> None:
    (tmp_path / "data").write_bytes(b"the beginning and the end")
    with (tmp_path / "data").open("rb") as file:
        ends, rest, _ = resume(file.fileno(), there, total)
    assert [failure and failure.end for failure in ends] == [End.LOCAL_ERROR, End.REMOTE_ERROR]
    assert all("not the beginning of what is sent" in str(failure) for failure in ends)
    assert rest == b""


@pytest.mark.parametrize("kind", [FramedStream, PlainStream])
@pytest.mark.parametrize(
    ("command", "typed", "printed", "status"),
    [
        ("echo hi", b"", b"hi\n", 0),
        ("echo hi; exit 7", b"", b"hi\n", 7),
        ("kill -9 $$", b"", b"", 137),
        ("head -c 3; exec <&-; sleep 0.2; echo late", b"abc" + bytes(1 << 20), b"abclate\n", 0),
        ("(sleep 0.2; echo child) & exit 3", b"", b"child\n", 3),
    ],
)
def test_a_stream_ends_with_its_command_though_nobody_closes_the_other_end(
    kind: type[Stream], command: str, typed: bytes, printed: bytes, status: int
) -> None:
    ours, theirs = connected()
    person = Side(kind, theirs)
    with command_ends(command) as ends:
        stream = kind(ours, ends.source, ends.sink, command=ends.command)
        runs = [POOL.submit(stream.run), POOL.submit(person.run)]
        reading = POOL.submit(person.read)
        typing = POOL.submit(_type, person.input, typed)
        if kind is FramedStream:  # else it is for the other program to end
            assert runs[1].result(PATIENCE_S) is End.DONE
        assert runs[0].result(PATIENCE_S) is None
    os.close(person.input)
    typing.result(PATIENCE_S)
    assert reading.result(PATIENCE_S) == printed
    assert stream.status == status
    assert person.stream.status == (status if kind is FramedStream else None)


def _type(fd: int, text: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        _write_all(fd, text)
