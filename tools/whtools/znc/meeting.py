"""`0nc` with an invitation: printed, or used; then the stream, or forwards."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from wh import rendezvous
from wh.events import Key
from wh.rendezvous import Guest, Host, Party, Terms, read_bootstrap
from whtools.znc.forwarding import Forwarding
from whtools.znc.local_ends import StandardStreams
from whtools.znc.outcome import EXIT_EXPIRED, EXIT_UNREACHABLE, Ended, Reporter
from whtools.znc.plain import ends_of, serve
from whtools.znc.settings import Settings
from whtools.znc.transfer import Transfer

CLOSING_S = 3.0
"""How long saying goodbye may take."""


def run(text: str | None, settings: Settings, reporter: Reporter, streams: StandardStreams) -> None:
    """text: of the invitation; None: make one. Raises Ended, WireHubError."""
    terms = Terms(
        bootstraps=tuple(map(read_bootstrap, settings.bootstraps)), lan=settings.lan, relay=settings.relay
    )
    if text is None:
        host = Host(terms)
        with _Closing(host):
            _wait_for_guests(host, settings, reporter, streams)
    else:
        guest = Guest(text, terms)
        with _Closing(guest):
            _visit(guest, settings, reporter, streams)


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


def _wait_for_guests(host: Host, settings: Settings, reporter: Reporter, streams: StandardStreams) -> None:
    host.start()
    listener = host.listen()
    _print_invitation(host, settings, reporter)
    wait_s = settings.expires_s if settings.wait_s is None else min(settings.wait_s, settings.expires_s)
    deadline = time.monotonic() + wait_s
    known: set[Key] = set()

    def accept() -> tuple[socket.socket, object]:
        while True:
            listener.settimeout(max(0.0, deadline - time.monotonic()) or 1e-3 if not known else None)
            try:
                connection, (address, *_) = listener.accept()
            except TimeoutError:
                raise _nobody(settings, wait_s) from None
            guest = host.guest_at(address)
            if guest is None:  # gone again meanwhile
                connection.close()
                continue
            if guest not in known:
                known.add(guest)
                _tell_connected(host, guest, host.check_words(guest), reporter)
                if settings.keep_open:
                    _print_invitation(host, settings, reporter)
            return connection, address

    if settings.forwards or settings.allow_forward:
        Forwarding(host, settings, reporter).serve(accept, known)
        return
    latest = lambda: host.path_text(next(iter(known), b""))  # noqa: E731
    serve(accept, settings, reporter, ends_of(settings, streams.opened), plain=False, path=latest)


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


def _visit(guest: Guest, settings: Settings, reporter: Reporter, streams: StandardStreams) -> None:
    started = time.monotonic()
    patience_s = rendezvous.PATIENCE_S if settings.wait_s is None else settings.wait_s
    guest.start()
    guest.claim(patience_s)
    forwarding = settings.forwards or settings.allow_forward
    connection = _connect(guest, started + patience_s)
    _tell_connected(guest, guest.host, guest.words, reporter, time.monotonic() - started)
    if forwarding:
        Forwarding(guest, settings, reporter).visit(connection)
        return
    path: Callable[[], str] = lambda: guest.path_text(guest.host)  # noqa: E731
    with ends_of(settings, streams.opened)() as ends:
        Transfer(connection, ends, settings, reporter, path=path).run()


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
