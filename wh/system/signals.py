"""A signal that was ignored when we started stays ignored: `nohup`, or a shell's `&`, meant that."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these for itself. A program that is not Python shall die of them."""


def is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def handle_unless_ignored(number: signal.Signals, handler: Callable[[int, FrameType | None], object]) -> None:
    if not is_ignored(number):
        signal.signal(number, handler)


class Terminated(SystemExit):
    """SIGTERM or SIGHUP came: what is half made is taken back on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number

    def die(self) -> NoReturn:
        """As if nothing had been taken back in between: whoever waits for us sees the signal."""
        signal.signal(self.number, signal.SIG_DFL)
        os.kill(os.getpid(), self.number)
        raise self


def clean_up_when_terminated() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        handle_unless_ignored(number, _terminate)


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise Terminated(number)


def become(words: tuple[str, ...]) -> NoReturn:
    """This process is the command from now on. Raises OSError."""
    for number in PYTHONS_OWN:
        signal.signal(number, signal.SIG_DFL)
    os.execvp(words[0], words)  # noqa: S606
