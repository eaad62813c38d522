"""How `0nc` ends: exit codes, and what it says on standard error, as text or as JSON."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from whtools.terminal import BOLD, RED, has_colour, paint, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wh.streams.failure import StreamFailure
    from whcore.errors import WireHubError

EXIT_DONE = 0
EXIT_IO = 1
EXIT_USAGE = 2
EXIT_MALFORMED = 3
EXIT_EXPIRED = 4
EXIT_UNREACHABLE = 5
EXIT_AUTHENTICATION = 6
EXIT_LOST = 7
EXIT_INTERRUPTED = 130

_EXIT_BY_CODE = {
    "WH130": EXIT_USAGE,
    "WH140": EXIT_MALFORMED,
    "WH141": EXIT_MALFORMED,
    "WH142": EXIT_MALFORMED,
    "WH143": EXIT_MALFORMED,
    "WH144": EXIT_EXPIRED,
    "WH145": EXIT_MALFORMED,
    "WH146": EXIT_EXPIRED,
    "WH147": EXIT_AUTHENTICATION,
    "WH320": EXIT_UNREACHABLE,
    "WH321": EXIT_UNREACHABLE,
}


class Ended(Exception):
    """The program is to end with this code, for this reason."""

    def __init__(self, exit_code: int, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code
        self.hint = hint


def ended_by(error: WireHubError) -> Ended:
    return Ended(_EXIT_BY_CODE.get(error.code, EXIT_IO), str(error), code=error.code, hint=error.hint)


def ended_by_stream(failure: StreamFailure) -> Ended:
    from wh.streams.failure import End

    exits = {
        End.LOCAL_ERROR: EXIT_IO,
        End.REMOTE_ERROR: EXIT_IO,
        End.LOST: EXIT_LOST,
        End.PROTOCOL: EXIT_LOST,
        End.CANCELLED: EXIT_INTERRUPTED,
    }
    return Ended(exits[failure.end], str(failure))


class Reporter:
    """What is said on standard error. Thread-safe. json: one object a line; verbosity: 0 errors and the
    invitation, 1 connections too, 2 everything."""

    def __init__(self, *, as_json: bool = False, verbosity: int = 1) -> None:
        self.as_json = as_json
        self.verbosity = verbosity
        self._lock = threading.Lock()
        self._unfinished_line = False

    def event(self, kind: str, text: str = "", *, level: int = 1, **facts: Any) -> None:
        """text: for people, who see it at this verbosity; programs get every event with its facts."""
        if self.as_json:
            self._write(json.dumps({"event": kind, **facts}) + "\n")
        elif text and level <= self.verbosity:
            self._write(f"0nc: {text}\n")

    def plain(self, kind: str, line: str, **facts: Any) -> None:
        """A line to be copied: nothing stands before it."""
        self._write(json.dumps({"event": kind, **facts}) + "\n" if self.as_json else line + "\n")

    def progress(self, text: str, **facts: Any) -> None:
        """A line that the next one replaces, on a terminal."""
        if self.as_json:
            self._write(json.dumps({"event": "progress", **facts}) + "\n")
        elif sys.stderr is not None and sys.stderr.isatty():
            with self._lock:
                self._unfinished_line = True
                self._put(f"\r\x1b[K{text}")
        else:
            self._write(text + "\n")

    def error(self, ended: Ended) -> None:
        if self.as_json:
            facts = {"exit": ended.exit_code, "code": ended.code, "message": str(ended), "hint": ended.hint}
            self._write(json.dumps({"event": "error", **facts}) + "\n")
            return
        label = paint(
            f"error {ended.code}".rstrip(), f"{BOLD};{RED}", sys.stderr is not None and has_colour(sys.stderr)
        )
        lines = [f"0nc: {label}: {printable(str(ended))}"]
        if ended.hint:
            lines.append(f"  fix: {printable(ended.hint)}")
        self._write("\n".join(lines) + "\n")

    def _write(self, text: str) -> None:
        with self._lock:
            if self._unfinished_line:
                self._unfinished_line = False
                text = "\n" + text
            self._put(text)

    def _put(self, text: str) -> None:
        if sys.stderr is None:
            return
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:  # nobody listens: the stream goes on
            return
