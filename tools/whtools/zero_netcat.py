"""Entry point of `0nc`: netcat across any network, from one pasted line, without root."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from wh.system import standard_streams
from wh.system.signals import handle_unless_ignored
from whtools.znc.outcome import EXIT_DONE, EXIT_INTERRUPTED, EXIT_IO, Ended, Reporter, ended_by
from whtools.znc.settings import USAGE, Settings, parse

ENDING_SIGNALS = (
    *(signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGXCPU, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR),
)
"""What ends a program that does not catch it; the other end is told first. Python catches SIGINT."""


def main() -> None:
    """Ends the process at once: threads that wait for a terminal or a pipe have nothing more to say."""
    standard_streams.prepare()
    os._exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code. Nothing is raised."""
    reporter = Reporter(as_json="--json" in arguments)
    for number in ENDING_SIGNALS:
        handle_unless_ignored(number, _interrupt)
    try:
        settings = parse(arguments)
        reporter.verbosity = settings.verbosity
        _log_from(settings.verbosity)
        if settings.help or settings.version:
            print(USAGE if settings.help else f"0nc {_version()}\n", end="", flush=True)
            return EXIT_DONE
        return _dispatch(settings, reporter)
    except Ended as ended:
        reporter.error(ended)
        return ended.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        if os.environ.get("WH_DEBUG"):
            raise
        reporter.error(_ended_by_other(error))
        return _ended_by_other(error).exit_code


def _dispatch(settings: Settings, reporter: Reporter) -> int:
    """The exit code."""
    plain = settings.is_plain
    invitation = None
    if not plain:
        invitation = _read_invitation(settings)
    from whtools.znc.local_ends import StandardStreams

    streams = StandardStreams(settings)
    if plain:
        from whtools.znc import plain as plain_tcp

        open_ends = plain_tcp.ends_of(settings, streams.opened)
        return (plain_tcp.listen if settings.listen else plain_tcp.connect)(settings, reporter, open_ends)
    from whtools.znc import meeting

    return meeting.run(invitation, settings, reporter, streams)


def _read_invitation(settings: Settings) -> str | None:
    from wh.trust.pasting import word_of_untrusted  # what plain TCP need not wait for
    from whtools.znc import secret_words

    word = " ".join(settings.words) or None
    try:
        text = secret_words.read_invitation(word)
    except OSError as error:
        raise Ended(EXIT_IO, f"cannot read the invitation: {error.strerror}") from None
    for secret in settings.words if text is not None else ():
        secret_words.hide(secret)
    if text is None:
        return None
    secret_words.hide(text)
    return word_of_untrusted(text)


def _ended_by_other(error: Exception) -> Ended:
    from whcore.errors import WireHubError

    if isinstance(error, WireHubError):
        return ended_by(error)
    if isinstance(error, standard_streams.StreamError):
        return Ended(EXIT_IO, str(error), code=error.code)
    return Ended(
        EXIT_IO,
        f"{type(error).__name__}: {error}",
        code="WH100",
        hint="WH_DEBUG=1 shows where; please report it",
    )


def _log_from(verbosity: int) -> None:
    """What the node in us logs: warnings with -v -v, everything with -v -v -v."""
    if verbosity >= 3:
        import logging

        level = logging.DEBUG if verbosity >= 4 else logging.WARNING
        logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(name)s: %(message)s")


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGINT, *ENDING_SIGNALS):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("wirehub")
    except PackageNotFoundError:  # run from its sources
        return "unknown"


if __name__ == "__main__":
    main()
