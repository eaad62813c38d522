"""Types of the words that commands take, with their completion."""

from __future__ import annotations

import contextlib
from typing import Any

import click
from click.shell_completion import CompletionItem

from wh.errors import IpcError
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
    """A peer of the interface that was named before: its host name, or its key in either base64 form."""

    name = "peer"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        interface = ctx.params.get("interface")
        if not interface:
            return []
        with contextlib.suppress(IpcError):
            status = client.call(interface, schema.STATUS, schema.NoArguments(), timeout=COMPLETION_TIMEOUT_S)
            return _matching(_names(status), incomplete)
        return []


def _names(status: schema.Status) -> list[str]:
    """Peers that the user named; keys only where there is no name, as the original offers them."""
    return [peer.hostname or peer.public_key for peer in status.peers]


def _matching(candidates: list[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(candidate) for candidate in candidates if candidate.startswith(incomplete)]


NETWORK_FILE = click.Path(dir_okay=False)
