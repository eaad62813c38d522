"""`wh ipc`."""

from __future__ import annotations

import click
import msgspec

from wh.ipc import client, schema
from wh.system.standard_streams import read_input
from whtools.application import command
from whtools.parameters import Interface


@command("ipc")
@click.argument("interface", type=Interface(), metavar="INTERFACE")
@click.argument("verb", metavar="VERB")
@click.argument("arguments", required=False, default="{}", metavar="[JSON | -]")
def ipc(interface: str, verb: str, arguments: str) -> None:
    """Send one request to a daemon, arguments as a JSON object, and print its answer.

    A hyphen reads the arguments from standard input. Progress comes before the result, a line each.
    """
    text = read_input(schema.REQUEST_LEN_MAX) if arguments == "-" else arguments
    try:
        request = msgspec.json.encode(msgspec.json.decode(text, type=dict[str, object]))
    except (msgspec.DecodeError, RecursionError) as error:
        raise click.UsageError(f"the arguments are not a JSON object: {error}") from None
    click.echo(client.call_raw(interface, verb, request, _print_progress).decode())


def _print_progress(step: msgspec.Raw) -> None:
    click.echo(bytes(step).decode())
