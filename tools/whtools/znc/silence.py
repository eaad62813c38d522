"""An end of which nothing is heard: it may be stopped (Ctrl-Z, a lid that was closed), or gone for good."""

from __future__ import annotations

import time

from whtools.znc.outcome import Reporter

TOLD_AFTER_S = 10.0
PAUSED_S = 5.0
"""Between two looks: then this end was stopped itself, and all of the patience begins anew."""


class Silence:
    """look() once a second."""

    def __init__(self, patience_s: float, reporter: Reporter, now: float) -> None:
        self._patience_s = patience_s
        self._reporter = reporter
        self._looked_at = now
        self._excused_until = now
        self._told_since: float | None = None

    def look(self, unheard_s: float, now: float) -> bool:
        """Whether patience is over. now: monotonic."""
        if now - self._looked_at > PAUSED_S:
            self._excused_until = now
            unheard_s = max(unheard_s, now - self._looked_at)  # though something came as soon as we went on
        self._looked_at = now
        since = now - unheard_s
        if unheard_s < TOLD_AFTER_S:
            self._tell_return(now)
            return False
        until = max(since, self._excused_until) + self._patience_s
        if self._told_since is None:
            self._told_since = since
            self._tell(since - now, until - now)
        return now >= until

    def _tell(self, since_s: float, until_s: float) -> None:
        """Both from now on."""
        now = time.time()
        since, until = now + since_s, now + until_s
        self._reporter.event(
            "silent",
            f"nothing is heard of the other end since {_clock(since)}; waiting until {_clock(until)}",
            since=round(since),
            until=round(until),
        )

    def _tell_return(self, now: float) -> None:
        if self._told_since is not None:
            seconds = now - self._told_since
            self._told_since = None
            self._reporter.event(
                "heard",
                f"the other end is there again, after {seconds:.0f} s",
                seconds=round(seconds),
            )


def _clock(unix: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(unix))
