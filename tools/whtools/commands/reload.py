"""`wh reload`."""

from __future__ import annotations

import click

from wh.ipc import client, schema
from whcore.errors import WireHubError
from whtools.application import command
from whtools.interfaces import named_or_only
from whtools.outcome import report
from whtools.parameters import ALL, Interface
from whtools.terminal import printable


@command("reload")
@click.argument("interface", required=False, type=Interface(ALL), metavar="[INTERFACE | all]")
def reload(interface: str | None) -> int:
    """Read the network file again. A file with an error changes nothing.

    Without a word, that of the only interface that is up.
    """
    code = 0
    for name in named_or_only(interface):
        try:
            changes = client.call(name, schema.RELOAD, schema.NoArguments())
            click.echo(f"{name}: {describe(changes)}")
        except WireHubError as error:
            code = report(error)
    return code


def describe(changes: schema.Reloaded) -> str:
    parts = [
        f"{what} {', '.join(map(printable, names))}"
        for what, names in (
            ("added", changes.added),
            ("removed", changes.removed),
            ("changed", changes.changed),
        )
        if names
    ]
    return "; ".join(parts) or "nothing changed"
