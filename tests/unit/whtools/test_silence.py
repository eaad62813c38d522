"""An end that is silent is told of, and waited for."""

from __future__ import annotations

from typing import Any

from whtools.znc.outcome import Reporter
from whtools.znc.silence import Silence


class Told(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def event(self, kind: str, text: str = "", *, level: int = 1, **facts: Any) -> None:
        self.events.append((kind, text, facts))


def looks(silence: Silence, *steps: tuple[float, float]) -> list[bool]:
    """Each: how long nothing was heard, and the time."""
    return [silence.look(unheard_s, now) for unheard_s, now in steps]


def test_ten_seconds_of_silence_are_told_once_with_their_beginning_and_the_end_of_patience():
    told = Told()
    silence = Silence(60.0, told, 100.0)
    assert looks(silence, *((second, 100.0 + second) for second in range(60))) == [False] * 60
    ((kind, text, facts),) = told.events
    assert (kind, facts["until"] - facts["since"]) == ("silent", 60)
    assert "since" in text and "waiting until" in text
    assert looks(silence, (60.0, 160.0)) == [True]


def test_who_is_heard_again_is_told_of_too():
    told = Told()
    silence = Silence(60.0, told, 100.0)
    looks(silence, *((second, 100.0 + second) for second in range(21)))
    assert looks(silence, (0.2, 121.0)) == [False]
    assert [kind for kind, _, _ in told.events] == ["silent", "heard"]
    assert told.events[1][2] == {"seconds": 21}
    looks(silence, (11.0, 132.0), (12.0, 133.0))
    assert [kind for kind, _, _ in told.events] == ["silent", "heard", "silent"]


def test_who_was_stopped_itself_waits_anew():
    told = Told()
    silence = Silence(60.0, told, 100.0)
    assert looks(silence, (0.0, 101.0), (500.0, 601.0), *((500.0 + s, 601.0 + s) for s in range(1, 60))) == (
        [False] * 61
    )
    assert told.events[0][2]["until"] - told.events[0][2]["since"] == 560
    assert looks(silence, (560.0, 661.0)) == [True]


def test_who_was_stopped_itself_says_so_though_the_other_end_is_heard_at_once():
    told = Told()
    silence = Silence(60.0, told, 100.0)
    looks(silence, (0.0, 101.0), (0.1, 176.0), (1.1, 177.0))
    assert [kind for kind, _, _ in told.events] == ["silent", "heard"]
    assert told.events[0][2]["until"] - told.events[0][2]["since"] == 75 + 60
