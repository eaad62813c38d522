"""What a daemon and its helper log, and how: to standard error, be it a file, the journal or a terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from wh.errors import UsageError, one_line
from whcore.errors import WireHubError

VARIABLE = "WH_LOG"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
JOURNAL_FORMAT = "%(name)s: %(message)s"
"""The journal has the time itself, and takes the level from a prefix (sd-daemon(3))."""

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


def configure(environment: Mapping[str, str] = os.environ, *, least: int = logging.DEBUG) -> None:
    """WH_LOG is about our own modules; libraries warn. least: nothing below it. Raises UsageError, and logs
    all the same then."""
    handler = logging.StreamHandler(sys.stderr)
    journal = _is_journal(environment.get("JOURNAL_STREAM", ""))
    handler.setFormatter(_JournalFormatter(JOURNAL_FORMAT) if journal else logging.Formatter(FORMAT))
    handler.addFilter(_describe_errors)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    word = environment.get(VARIABLE) or "info"
    logging.getLogger("wh").setLevel(max(least, LEVELS.get(word.lower(), logging.INFO)))
    if word.lower() not in LEVELS:
        raise UsageError(f"{VARIABLE}={word} is no level", hint=f"it can be {', '.join(LEVELS)}")


def _describe_errors(record: logging.LogRecord) -> bool:
    """An error of ours has a code and what to do, which its text alone leaves out."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            one_line(each) if isinstance(each, WireHubError) else each for each in record.args
        )
    return True


def _is_journal(stream: str) -> bool:
    """stream: JOURNAL_STREAM, device and inode of what systemd connected to the journal."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))
