"""Plain TCP, as other netcats speak it: over an ordinary wh network, or any other."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from wh.streams.connection import hang_up
from whtools.znc.forward_words import read_port
from whtools.znc.local_ends import LocalEnds, command_ends
from whtools.znc.outcome import EXIT_IO, EXIT_UNREACHABLE, Ended, Reporter
from whtools.znc.settings import Settings, usage_error
from whtools.znc.transfer import Transfer, Way

BACKLOG = 16
NAME_SHOWN = 253
RETRY_S = 0.2
OpenEnds = Callable[[], AbstractContextManager[LocalEnds]]


def connect(settings: Settings, reporter: Reporter, open_ends: OpenEnds) -> int:
    """0nc HOST PORT. The exit code. Raises Ended."""
    host, port = settings.words[0], _port(settings.words[1])
    connection = _dial(host, port, settings.wait_s)
    reporter.event("connected", f"connected to {host} port {port}", level=2, address=host, port=port)
    with open_ends() as ends:
        return Transfer(connection, ends, settings, reporter, plain=True).run()


def listen(settings: Settings, reporter: Reporter, open_ends: OpenEnds) -> int:
    """0nc -l [ADDRESS] PORT. The exit code. Raises Ended."""
    *address, port_word = settings.words
    with _listener(address[0] if address else "", _port(port_word)) as listener:
        listener.settimeout(settings.wait_s)
        reporter.event("listening", f"listening on port {listener.getsockname()[1]}", level=2)

        def accept() -> tuple[socket.socket, str]:
            connection, address = listener.accept()
            return connection, str(address[0])

        return serve(accept, settings, reporter, open_ends, plain=True)


def serve(
    accept: Callable[[], tuple[socket.socket, str]],
    settings: Settings,
    reporter: Reporter,
    open_ends: OpenEnds,
    *,
    plain: bool,
    way: Callable[[str], Way] | None = None,
) -> int:
    """The next connection, and its exit code; with keep_open one after the other, or with a command all at
    once, for ever."""
    while True:
        try:
            connection, address = accept()
        except TimeoutError:
            raise Ended(EXIT_UNREACHABLE, "nobody has connected in time") from None
        reporter.event("accepted", f"connection from {address}", level=2, address=address)

        def work(connection: socket.socket = connection, address: str = address) -> int:
            try:
                with open_ends() as ends:
                    on = None if way is None else way(address)
                    return Transfer(connection, ends, settings, reporter, plain=plain, way=on).run()
            finally:
                hang_up(connection)

        if not settings.keep_open:
            return work()
        if settings.command is None:
            _reported(work, reporter)
        else:
            threading.Thread(target=_reported, args=(work, reporter), daemon=True).start()


def _reported(work: Callable[[], int], reporter: Reporter) -> None:
    """With -k the end of one is not the end of all."""
    try:
        work()
    except Ended as ended:
        reporter.error(ended)


def ends_of(settings: Settings, standard: OpenEnds) -> OpenEnds:
    command = settings.command
    return standard if command is None else lambda: command_ends(command)


def _dial(host: str, port: int, wait_s: float | None) -> socket.socket:
    """With wait_s, tried again until then: the other end may not be listening yet."""
    deadline = time.monotonic() + (wait_s or 0.0)
    while True:
        try:
            return socket.create_connection((host, port), timeout=wait_s)
        except (socket.gaierror, UnicodeError) as error:  # UnicodeError: no name that IDNA can write
            reason = getattr(error, "strerror", "it is no name of a host")
            raise Ended(EXIT_UNREACHABLE, f"no address is known of {host[:NAME_SHOWN]}: {reason}") from None
        except OSError as error:
            if time.monotonic() + RETRY_S >= deadline:
                reason = error.strerror or str(error) or "no answer"
                raise Ended(EXIT_UNREACHABLE, f"cannot connect to {host} port {port}: {reason}") from None
        time.sleep(RETRY_S)


def _listener(address: str, port: int) -> socket.socket:
    try:
        if address:
            family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((address, port), family=family, backlog=BACKLOG)
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        return socket.create_server(("", port), backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no address"
        raise Ended(EXIT_IO, f"cannot listen on {address[:NAME_SHOWN] or 'port'} {port}: {reason}") from None


def _port(word: str) -> int:
    try:
        return read_port(word)
    except ValueError as error:
        raise usage_error(str(error)) from None
