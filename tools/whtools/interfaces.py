"""Which daemons a command is about."""

from __future__ import annotations

import click
import msgspec

from wh.errors import Code, IpcError, UsageError
from wh.ipc import client, schema
from wh.system.exit_codes import EXIT_OK
from whcore.errors import WireHubError
from whtools.outcome import report
from whtools.parameters import ALL

NOTHING_UP = "no interface is up; start one with: wh up FILE"


def named_or_all(interface: str) -> list[str]:
    """The interface itself; for `all`, each one that has a daemon. Raises IpcError where none has."""
    if interface != ALL:
        return [interface]
    running = client.list_interfaces()
    if not running:
        raise IpcError("no interface is up", code=Code.NO_DAEMON, hint="start one with: wh up FILE")
    return running


def named_or_only(interface: str | None) -> list[str]:
    """The interface itself, or all, or the only one where nothing was said."""
    return named_or_all(the_only_one(interface) if interface is None else interface)


def interface_and_peer(first: str, second: str | None) -> tuple[str, str]:
    """`INTERFACE PEER`, or `PEER` where only one interface is up."""
    if second is not None:
        return first, second
    only = the_only_one(None)
    if first == only:
        raise UsageError(f"of the peer there is no word behind {first}", hint="name it, or give its key")
    return only, first


def the_only_one(interface: str | None) -> str:
    """The named interface, or the one that is up. Raises IpcError where none is, UsageError where several
    are."""
    if interface is not None:
        return interface
    running = named_or_all(ALL)
    if len(running) > 1:
        raise UsageError(
            "more than one interface is up", hint=f"say which: interface {{{' | '.join(running)}}}"
        )
    return running[0]


def ask_each(
    interfaces: list[str], verb: schema.Verb[schema.NoArguments, schema.Result], timeout_s: float
) -> tuple[list[schema.Result], int]:
    """What each that answers tells; errors are printed. Also the exit code."""
    answers, code = [], EXIT_OK
    for interface in interfaces:
        try:
            answers.append(client.call(interface, verb, schema.NoArguments(), timeout=timeout_s))
        except WireHubError as error:
            code = report(error)
    return answers, code


def print_json(answers: list[schema.Result], asked: str | None) -> None:
    """A list, or of one interface that was asked for by name its answer, null where it gave none."""
    shown: object = answers if asked in (None, ALL) else answers[0] if answers else None
    click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
