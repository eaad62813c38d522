"""`0nc` with an invitation: printed, or used; then the stream, or forwards."""

from __future__ import annotations

import socket
import threading
import time

from wh.engine.events import Key
from wh.meeting import rendezvous
from wh.meeting.rendezvous import Guest, Host, Party, Terms, read_bootstrap
from wh.streams.connection import hang_up
from whtools.znc.forwarding import Forwarding
from whtools.znc.local_ends import StandardStreams
from whtools.znc.outcome import EXIT_DONE, EXIT_EXPIRED, EXIT_LOST, EXIT_UNREACHABLE, Ended, Reporter
from whtools.znc.plain import ends_of, serve
from whtools.znc.settings import Settings
from whtools.znc.transfer import Transfer, Way

LOOK_S = 0.5
VANISHED_AFTER_S = 30.0
"""From a claim to the connection that follows it at once."""

CLOSING_S = 3.0
"""How long saying goodbye may take."""


def run(text: str | None, settings: Settings, reporter: Reporter, streams: StandardStreams) -> int:
    """The exit code. text: of the invitation; None: make one. Raises Ended, WireHubError."""
    terms = Terms(
        bootstraps=tuple(map(read_bootstrap, settings.bootstraps)), lan=settings.lan, relay=settings.relay
    )
    if text is None:
        host = Host(terms)
        with _Closing(host):
            return _wait_for_guests(host, settings, reporter, streams)
    else:
        guest = Guest(text, terms)
        with _Closing(guest):
            return _visit(guest, settings, reporter, streams)


class _Closing:
    """Says goodbye, also when interrupted, but not for ever."""

    def __init__(self, party: Party) -> None:
        self._party = party

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        closing = threading.Thread(target=self._party.close, daemon=True)
        closing.start()
        closing.join(CLOSING_S)


def _wait_for_guests(host: Host, settings: Settings, reporter: Reporter, streams: StandardStreams) -> int:
    host.start()
    reception = _Reception(host, settings, reporter)
    if settings.forwards or settings.allow_forward:
        Forwarding(host, settings, reporter).serve(reception.accept, reception.known)
        return EXIT_DONE
    return serve(
        reception.accept,
        settings,
        reporter,
        ends_of(settings, streams.opened),
        plain=False,
        way=lambda address: Way(host, host.guest_at(address) or b""),
    )


class _Reception:
    """Where guests arrive, each by an invitation of its own. known: who has come so far."""

    def __init__(self, host: Host, settings: Settings, reporter: Reporter) -> None:
        self.known: set[Key] = set()
        self._host = host
        self._settings = settings
        self._reporter = reporter
        self._listener = host.listen()
        self._listener.settimeout(LOOK_S)
        self._wait_s = settings.expires_s
        if settings.wait_s is not None:
            self._wait_s = min(self._wait_s, settings.wait_s)
        self._deadline = time.monotonic() + self._wait_s
        self._claimed_at: dict[Key, float] = {}
        _print_invitation(host, settings, reporter)

    def accept(self) -> tuple[socket.socket, str]:
        """The next connection of a guest, and its address. Raises Ended where nobody comes any more."""
        while True:
            try:
                connection, (address, *_) = self._listener.accept()
            except TimeoutError:
                self._look()
                continue
            connection.settimeout(None)
            guest = self._host.guest_at(address)
            if guest is None:  # gone again meanwhile
                connection.close()
                continue
            if guest not in self.known:
                self._host.await_path(guest)
                self._welcome(guest)
            return connection, address

    def _welcome(self, guest: Key) -> None:
        self.known.add(guest)
        _tell_connected(self._host, guest, self._host.check_words(guest), self._reporter)
        if self._settings.keep_open:
            _print_invitation(self._host, self._settings, self._reporter)

    def _look(self) -> None:
        """Somebody may have used the invitation and vanished, and then nobody else can."""
        now = time.monotonic()
        for guest in self._host.guests() - self.known:
            if now - self._claimed_at.setdefault(guest, now) < VANISHED_AFTER_S:
                continue
            if not self._settings.keep_open:
                raise Ended(EXIT_LOST, "somebody used the invitation, and vanished before the stream began")
            self._welcome(guest)
        if not self.known and now >= self._deadline:
            raise _nobody(self._settings, self._wait_s)


def _nobody(settings: Settings, wait_s: float) -> Ended:
    if wait_s < settings.expires_s:
        return Ended(EXIT_UNREACHABLE, f"nobody has come within {wait_s:g} s")
    return Ended(EXIT_EXPIRED, "the invitation has expired, and nobody has used it")


def _print_invitation(host: Host, settings: Settings, reporter: Reporter) -> None:
    text = host.invite(settings.expires_s)
    if not reporter.as_json:
        reporter.event("", "run 0nc on the other machine, with this:")
    reporter.plain("invitation", text, text=text, expires=int(time.time() + settings.expires_s))
    if settings.qr and not reporter.as_json:
        from whtools.qr import as_text

        reporter.plain("qr", as_text(text))


def _visit(guest: Guest, settings: Settings, reporter: Reporter, streams: StandardStreams) -> int:
    started = time.monotonic()
    patience_s = rendezvous.PATIENCE_S if settings.wait_s is None else settings.wait_s
    guest.start()
    guest.claim(patience_s)
    connection = _connect(guest, started + patience_s)
    try:
        guest.await_path(guest.host)
        _tell_connected(guest, guest.host, guest.words, reporter, time.monotonic() - started)
        if settings.forwards or settings.allow_forward:
            Forwarding(guest, settings, reporter).visit(connection)
            return EXIT_DONE
        with ends_of(settings, streams.opened)() as ends:
            return Transfer(connection, ends, settings, reporter, way=Way(guest, guest.host)).run()
    finally:
        hang_up(connection)


def _connect(guest: Guest, deadline: float) -> socket.socket:
    try:
        return guest.connect(guest.host, deadline)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Ended(EXIT_UNREACHABLE, f"the one who invited does not answer: {reason}") from None


def _tell_connected(
    party: Party, key: Key, words: tuple[str, ...], reporter: Reporter, seconds: float | None = None
) -> None:
    path = party.path_text(key)
    after = "" if seconds is None else f" after {seconds:.2f} s"
    reporter.event(
        "connected",
        f"connected ({path}){after}; the other end should see: {' '.join(words)}",
        path=path,
        words=list(words),
        seconds=None if seconds is None else round(seconds, 3),
    )
