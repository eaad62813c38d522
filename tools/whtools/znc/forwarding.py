"""-L and -R: connections of one machine that come out of the other.

Each is a stream of its own over the overlay, whose HELLO says what it is for:

    control                   held open while the two belong together
    open KIND HOST:PORT       connect to that, and join it (needs --allow-forward)
    listen NUMBER KIND ...    listen there, while this connection is open (needs --allow-forward)
    forward NUMBER            a connection that came in for a `listen` of ours

Datagrams are DATA frames, one each. A Unix socket's place is `unix PATH`.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable

from wh.engine.events import Key
from wh.meeting.rendezvous import Guest, Party
from wh.streams import frames
from wh.streams.connection import hang_up, prepare
from wh.streams.endpoints import Sink, Source
from wh.streams.failure import StreamFailure
from wh.streams.framed import FramedStream, read_hello
from wh.streams.frames import BadFrame, Reason
from wh.system import files
from whtools.znc.forward_words import ForwardWord, Place, read_place_untrusted
from whtools.znc.outcome import EXIT_IO, EXIT_LOST, Ended, Reporter
from whtools.znc.settings import Settings

CONTROL = "control"
HELLO_S = 10.0
CONNECT_S = 15.0
STREAMS_MAX = 256
UDP_CLIENTS_MAX = 64
UDP_IDLE_S = 120.0
DATAGRAM_MAX = 65507

Accept = Callable[[], tuple[socket.socket, str]]


class Forwarding:
    """Of one pair of machines. Ends, with Ended or without, when the other end goes."""

    def __init__(self, party: Party, settings: Settings, reporter: Reporter) -> None:
        self._party = party
        self._settings = settings
        self._reporter = reporter
        self._places = threading.Semaphore(STREAMS_MAX)
        self._over = threading.Event()
        self._failure: Ended | None = None
        self._peer: Key = b""
        self._remote: list[ForwardWord] = settings.remote_forwards

    def visit(self, control: socket.socket) -> None:
        """The guest's side. control: the first connection to the host."""
        assert isinstance(self._party, Guest)
        self._peer = self._party.host
        listener = self._party.listen()
        self._spawn(self._accept_all, lambda: _accepted(listener))
        prepare(control)
        control.sendall(frames.hello(target=CONTROL))
        self._spawn(self._watch, control, False)
        self._begin()
        self._wait(control)

    def serve(self, accept: Accept, known: set[Key]) -> None:
        """The host's side. accept: adds who comes to `known`."""
        connection, _ = accept()
        self._peer = next(iter(known))
        try:
            hello = read_hello(connection, HELLO_S)
        except (OSError, BadFrame, StreamFailure) as error:
            raise Ended(EXIT_LOST, f"the other end went away: {error}") from None
        prepare(connection)
        if hello.target != CONTROL:
            self._refuse(connection, "forwards, and has no stream: run the other end with -L, -R or")
            raise Ended(EXIT_IO, "the other end wants a stream, not forwards")
        connection.sendall(frames.hello(target=CONTROL))
        self._spawn(self._accept_all, accept)
        self._spawn(self._watch, connection, True)
        self._begin()
        self._wait(connection)

    def _wait(self, control: socket.socket) -> None:
        try:
            self._over.wait()
        finally:
            self._over.set()
            with contextlib.suppress(OSError):
                control.shutdown(socket.SHUT_RDWR)
        if self._failure is not None:
            raise self._failure

    def _watch(self, control: socket.socket, greeted: bool) -> None:
        """Nothing comes on it but its end."""
        try:
            if not greeted and read_hello(control, HELLO_S).target != CONTROL:
                self._end(Ended(EXIT_IO, "the other end has a stream: it forwards with --allow-forward only"))
                return
            while control.recv(4096):
                continue
            self._reporter.event("left", "the other end has left")
        except (OSError, BadFrame, StreamFailure) as error:
            self._end(Ended(EXIT_LOST, f"the other end is gone: {error}"))
        self._over.set()

    def _end(self, ended: Ended) -> None:
        self._failure = self._failure or ended
        self._over.set()

    # Ours.

    def _begin(self) -> None:
        """Listen for -L, and have the other end listen for -R."""
        for word in self._settings.local_forwards:
            target = f"open {word.target}"
            self._listen(word.listen, lambda target=target: self._dial(target))  # type: ignore[misc]
            self._reporter.event("forward", f"{word.listen} leads to {word.target} there")
        for number, word in enumerate(self._remote):
            self._spawn(self._ask_to_listen, number, word)

    def _ask_to_listen(self, number: int, word: ForwardWord) -> None:
        try:
            connection, _ = self._dial(f"listen {number} {word.listen}")
        except (OSError, BadFrame, StreamFailure) as error:
            self._end(Ended(EXIT_IO, f"-R {word.listen}: {error}"))
            return
        self._reporter.event("forward", f"{word.listen} there leads to {word.target}")
        with contextlib.suppress(OSError), connection:
            connection.recv(1)  # its end

    def _dial(self, target: str) -> tuple[socket.socket, bool]:
        """A connection of the overlay whose target the other end has accepted; whether it is of datagrams.
        Raises OSError, BadFrame, StreamFailure."""
        connection = self._party.connect(self._peer, time.monotonic() + CONNECT_S)
        try:
            connection.sendall(frames.hello(target=target))
            read_hello(connection, CONNECT_S)
        except BaseException:
            connection.close()
            raise
        return connection, target.startswith("open udp ")

    # What the other end asks for.

    def _accept_all(self, accept: Accept) -> None:
        while not self._over.is_set():
            try:
                connection, address = accept()
            except (OSError, Ended):
                return
            if address != self._party.address_of(self._peer):
                connection.close()
                continue
            self._spawn(self._answer, connection)

    def _answer(self, connection: socket.socket) -> None:
        prepare(connection)
        try:
            what, _, rest = read_hello(connection, HELLO_S).target.partition(" ")
            match what:
                case "open" if self._settings.allow_forward:
                    self._join(connection, read_place_untrusted(rest))
                case "listen" if self._settings.allow_forward:
                    number, _, place = rest.partition(" ")
                    self._listen_for_other(connection, int(number), read_place_untrusted(place))
                case "forward" if rest.isdecimal() and int(rest) < len(self._remote):
                    self._join(connection, self._remote[int(rest)].target)
                case "open" | "listen":
                    self._refuse(connection, "does not allow that: it needs --allow-forward")
                case _:
                    self._refuse(connection, "forwards only, and has no stream")
        except (BadFrame, StreamFailure, ValueError) as error:
            self._refuse(connection, f"does not understand: {error}")
        except OSError as error:
            self._refuse(connection, f"failed: {error.strerror or error}")

    def _join(self, connection: socket.socket, place: Place) -> None:
        """Connect to a place of this machine, and join it to the connection."""
        try:
            local = _connect(place)
        except OSError as error:
            self._refuse(connection, f"cannot connect to {place}: {error.strerror or error}")
            return
        connection.sendall(frames.hello())
        self._run(connection, local, datagrams=place.kind == "udp")

    def _listen_for_other(self, connection: socket.socket, number: int, place: Place) -> None:
        stop = threading.Event()
        kind = place.kind
        target = f"forward {number}"

        def dial() -> tuple[socket.socket, bool]:
            return self._dial(target)[0], kind == "udp"

        self._listen(place, dial, stop)
        connection.sendall(frames.hello())
        self._reporter.event("forward", f"listening on {place} for the other end")
        with contextlib.suppress(OSError), connection:
            connection.recv(1)
        stop.set()

    def _refuse(self, connection: socket.socket, why: str) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(frames.failed(Reason.REFUSED, why))
        hang_up(connection)

    # Listening, and joining.

    def _listen(
        self,
        place: Place,
        dial: Callable[[], tuple[socket.socket, bool]],
        stop: threading.Event | None = None,
    ) -> None:
        """dial: makes the other half of each connection. Raises Ended where that cannot be."""
        try:
            listener = _listen_at(place)
        except (OSError, UnicodeError) as error:  # UnicodeError: no name that IDNA can write
            reason = getattr(error, "strerror", None) or error
            raise Ended(EXIT_IO, f"cannot listen on {place}: {reason}") from None
        work = self._take_datagrams if place.kind == "udp" else self._take_connections
        self._spawn(work, listener, dial, stop or self._over)
        self._spawn(_close_after, listener, stop or self._over, place)

    def _take_connections(
        self,
        listener: socket.socket,
        dial: Callable[[], tuple[socket.socket, bool]],
        stop: threading.Event,
    ) -> None:
        while not stop.is_set():
            try:
                local, _ = listener.accept()
            except OSError:
                return
            self._spawn(self._carry, local, dial)

    def _carry(self, local: socket.socket, dial: Callable[[], tuple[socket.socket, bool]]) -> None:
        try:
            connection, datagrams = dial()
        except (OSError, BadFrame, StreamFailure) as error:
            local.close()
            self._reporter.event("refused", f"a forwarded connection failed: {error}")
            return
        self._run(connection, local, datagrams=datagrams)

    def _run(self, connection: socket.socket, local: socket.socket, *, datagrams: bool) -> None:
        source, sink = Source(local.fileno()), Sink(local.fileno(), owned=False)
        stream = FramedStream(
            connection,
            source,
            sink,
            greeted=True,
            announced=True,
            datagrams=datagrams,
            idle_s=UDP_IDLE_S if datagrams else self._settings.idle_s,
        )
        if not self._places.acquire(blocking=False):
            connection.close()
            local.close()
            return
        try:
            failure = stream.run()
            if failure is not None and not datagrams:
                self._reporter.event("forward-end", f"a forwarded connection ended: {failure}", level=2)
        finally:
            self._places.release()
            local.close()

    def _take_datagrams(
        self,
        listener: socket.socket,
        dial: Callable[[], tuple[socket.socket, bool]],
        stop: threading.Event,
    ) -> None:
        """Each address that sends gets a stream of its own."""
        clients: dict[object, socket.socket] = {}

        def carry(address: object, inner: socket.socket, outer: socket.socket) -> None:
            self._spawn(_return_datagrams, outer, listener, address)
            self._carry(inner, dial)
            clients.pop(address, None)
            outer.close()

        while not stop.is_set():
            try:
                data, address = listener.recvfrom(DATAGRAM_MAX)
            except OSError:
                return
            outer = clients.get(address)
            if outer is None:
                if len(clients) >= UDP_CLIENTS_MAX:
                    continue
                inner, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                outer.setblocking(False)
                clients[address] = outer
                self._spawn(carry, address, inner, outer)
            with contextlib.suppress(OSError):  # full: it is lost, as datagrams may be
                outer.send(data)

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()


def _accepted(listener: socket.socket) -> tuple[socket.socket, str]:
    connection, address = listener.accept()
    return connection, str(address[0])


def _return_datagrams(outer: socket.socket, listener: socket.socket, address: tuple[str, int]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while True:
            select.select([outer], [], [])
            data = outer.recv(DATAGRAM_MAX)
            if not data:
                return
            listener.sendto(data, address)


def _connect(place: Place) -> socket.socket:
    if place.kind == "unix":
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            local.connect(place.host)
        except OSError:
            local.close()
            raise
        return local
    if place.kind == "tcp":
        local = socket.create_connection((place.host, place.port), timeout=CONNECT_S)
        local.settimeout(None)
        return local
    family, kind, protocol, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_DGRAM)[0]
    local = socket.socket(family, kind, protocol)
    local.connect(address)
    return local


def _listen_at(place: Place) -> socket.socket:
    if place.kind == "unix":
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(place.host)
        listener.listen()
        return listener
    family = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0][0]
    if place.kind == "tcp":
        return socket.create_server((place.host, place.port), family=family)
    listener = socket.socket(family, socket.SOCK_DGRAM)
    listener.bind((place.host, place.port))
    return listener


def _close_after(listener: socket.socket, stop: threading.Event, place: Place) -> None:
    with contextlib.ExitStack() as held:
        held.callback(listener.close)
        file = None
        if place.kind == "unix":
            with contextlib.suppress(OSError):
                file = held.enter_context(files.open_place(place.host, safe=False))
        stop.wait()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        if file is not None:
            _remove_socket(file)


def _remove_socket(file: files.Place) -> None:
    """Ours, and nothing that somebody put in its place."""
    status = file.status()
    if status is not None and stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid():
        file.unlink()
