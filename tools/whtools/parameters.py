"""Types of the words that commands take, with their completion."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import click
from click.shell_completion import CompletionItem

from wh.errors import ConfigError, InvitationError, IpcError
from wh.ipc import client, schema
from whtools.grammar import nearest

COMPLETION_TIMEOUT_S = 1.0
ALL = "all"


class OneOf(click.types.StringParamType):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.words:
            suggestion = nearest(str(value), self.words)
            hint = f"did you mean {suggestion}?" if suggestion else f"it can be {', '.join(self.words)}"
            raise click.UsageError(f"unknown word {value!r}; {hint}", ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return _matching(list(self.words), incomplete)


class WholeNumber(click.IntRange):
    """A number between two others."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number: int = super().convert(value, param, ctx)
        except click.BadParameter:
            limit = f"from {self.min} to {self.max}" if self.max is not None else f"of {self.min} or more"
            self.fail(f"{value} is not a whole number {limit}", param, ctx)
        return number


class Duration(click.types.StringParamType):
    """A time such as 90s, 30m, 1h or 7d; a bare number is in seconds. Whole seconds, 1 at least."""

    name = "time"
    _UNITS: ClassVar = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        number, unit = (value[:-1], value[-1:]) if value[-1:] in self._UNITS else (value, "s")
        seconds = int(number) * self._UNITS[unit] if number.isascii() and number.isdecimal() else 0
        if not 1 <= seconds <= schema.EXPIRES_MAX_S:
            self.fail(f"{value} is not a time such as 30m, 1h or 7d, of ten years at most", param, ctx)
        return seconds


class InvitedSubnet(click.types.StringParamType):
    """A subnet; the invitation's, where the command line has one by then, completes it."""

    name = "subnet"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        from wh.config.fields import read_subnet  # as below

        try:
            return read_subnet(value)
        except ConfigError as error:
            self.fail(f"{value}: {error}", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from wh.trust.invitation import decode_untrusted  # time that other commands need not take

        with contextlib.suppress(InvitationError):
            invited = decode_untrusted(ctx.params.get("invitation") or "")
            return _matching([str(invited.subnet)] if invited.subnet else [], incomplete)
        return []


class Interface(click.types.StringParamType):
    """An interface with a daemon, or one of some special words."""

    name = "interface"

    def __init__(self, *special: str) -> None:
        self.special = special

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return _matching([*client.list_interfaces(), *self.special], incomplete)


class Peer(click.types.StringParamType):
    """A peer of the interface that was named before, or of the only one: its host name, or its key in either
    base64 form."""

    name = "peer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        for place, character in enumerate(str(value), 1):
            if not character.isprintable():  # copied along, and no name or key has it
                self.fail(f"character {place} of it is U+{ord(character):04X}, which cannot be seen", param)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        running = client.list_interfaces()
        interface = ctx.params.get("interface") or (running[0] if len(running) == 1 else None)
        if interface is None:
            return []
        with contextlib.suppress(IpcError):
            status = client.call(interface, schema.STATUS, schema.NoArguments(), timeout=COMPLETION_TIMEOUT_S)
            return _matching(_names(status), incomplete)
        return []


class InterfaceOrPeer(Peer):
    """The first of two words, or the only one."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [
            *_matching(client.list_interfaces(), incomplete),
            *super().shell_complete(ctx, param, incomplete),
        ]


def _names(status: schema.Status) -> list[str]:
    """Peers that the user named; keys only where there is no name, as the original offers them."""
    return [peer.hostname or peer.public_key for peer in status.peers]


def _matching(candidates: list[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(candidate) for candidate in candidates if candidate.startswith(incomplete)]


NETWORK_FILE = click.Path(dir_okay=False)
