"""Each command is carried out, by one call of its own, and answered where an event follows at once."""

from typing import get_args

import pytest

from wh.engine import commands
from wh.engine.commands import Command
from wh.engine.events import Event, Instant, Path, RelayOpened, ReplyToken, SocketAdopted, SocketOpened
from wh.node.executor import carry_out
from wh.wire.messages import Leaving

NOW = Instant(1.0, 2.0)
PEER = bytes(32)
ADDRESS = bytes(18)
PATH = Path(1, ADDRESS)
EXAMPLES: list[Command] = [
    commands.Send(PEER, PATH, Leaving()),
    commands.Reply(ReplyToken(PEER, PATH, None), Leaving()),
    commands.Knock(1, ADDRESS, bytes(8)),
    commands.ResetSession(PEER),
    commands.SetDataPaths(PEER),
    commands.ClearSilence(PEER),
    commands.AdmitChannel(PATH),
    commands.DismissChannel(PATH),
    commands.OpenRelay(5, PATH, PATH),
    commands.MoveRelay(1, PATH),
    commands.LimitRelay(1),
    commands.CloseRelay(1),
    commands.SetRelayLimits(),
    commands.OpenSocket(6, 4),
    commands.CloseSocket(3),
    commands.AdoptSocket(3),
    commands.BindAlias(PEER, PEER, ()),
    commands.ConnectTcp(ADDRESS, (443,)),
    commands.DisconnectTcp(ADDRESS),
    commands.SendBeacon(),
    commands.ResolveName("host", 1),
    commands.RememberAddresses(()),
    commands.LeaveOutIpv6(frozenset()),
    commands.Notify(1, True),
]


class Recorder:
    """Whatever is asked of it, it notes, and answers as it was told to."""

    def __init__(self, answer: object) -> None:
        self._answer = answer
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> object:
        def note(*arguments: object) -> object:
            self.asked.append(name)
            return self._answer

        return note


def test_there_is_an_example_of_each_command() -> None:
    assert {type(each) for each in EXAMPLES} == set(get_args(Command))


@pytest.mark.parametrize("command", EXAMPLES, ids=lambda command: type(command).__name__)
def test_each_command_is_carried_out_once(command: Command) -> None:
    recorder = Recorder(())
    carry_out(command, recorder, NOW)  # type: ignore[arg-type]
    assert len(recorder.asked) == 1


@pytest.mark.parametrize(
    ("command", "answer", "event"),
    [
        (commands.OpenRelay(5, PATH, PATH), (7, 8), RelayOpened(5, (7, 8))),
        (commands.OpenRelay(5, PATH, PATH), None, RelayOpened(5, None)),
        (commands.OpenSocket(6, 4), (70_000, 999), SocketOpened(6, 70_000, 999)),
        (commands.OpenSocket(6, 4), None, SocketOpened(6, None, 0)),
        (commands.AdoptSocket(3), 9, SocketAdopted(3, 9)),
        (commands.AdoptSocket(3), None, SocketAdopted(3, None)),
    ],
)
def test_what_was_asked_for_is_answered_at_once(command: Command, answer: object, event: Event) -> None:
    assert list(carry_out(command, Recorder(answer), NOW)) == [event]  # type: ignore[arg-type]
