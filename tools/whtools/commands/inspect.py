"""`wh inspect`."""

from __future__ import annotations

import click
import msgspec

from wh.ipc import client
from whtools.application import command
from whtools.interfaces import named_or_only
from whtools.parameters import ALL, Interface


@command("inspect")
@click.argument("interface", required=False, type=Interface(ALL), metavar="[INTERFACE | all]")
def inspect(interface: str | None) -> None:
    """Print everything a daemon tells about itself, as JSON; for `all`, a list.

    Without a word, that of the only interface that is up.
    """
    answers = [msgspec.Raw(client.call_raw(name, "status", b"{}")) for name in named_or_only(interface)]
    whole = msgspec.json.encode(answers if interface == ALL else answers[0])
    click.echo(msgspec.json.format(whole, indent=2).decode())
