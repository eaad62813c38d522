"""`wh resolve`."""

from __future__ import annotations

import ipaddress

import click
import msgspec

from wh.errors import Code, IpcError
from wh.ipc import client, schema
from whtools.application import command
from whtools.interfaces import named_or_all
from whtools.parameters import ALL
from whtools.terminal import printable


@command("resolve")
@click.argument("name", metavar="{NAME | KEY | ADDRESS}")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all that is known, by interface.")
def resolve(name: str, as_json: bool) -> None:
    """Print the overlay addresses of a peer, or the name behind an address.

    Asks the daemons of all interfaces.
    """
    answers = {
        interface: answer for interface in named_or_all(ALL) if (answer := _ask(interface, name)) is not None
    }
    if not answers:
        raise IpcError(
            f"no network that is up knows {name}",
            code=Code.UNKNOWN_PEER,
            hint="use a name, a key or an address of a network file",
        )
    if as_json:
        click.echo(msgspec.json.encode(answers).decode())
        return
    for interface, answer in answers.items():
        prefix = f"{interface}: " if len(answers) > 1 else ""
        for line in describe(answer, by_address=_is_address(name)):
            click.echo(prefix + printable(line))


def describe(answer: schema.ResolveResult, *, by_address: bool) -> list[str]:
    return [answer.hostname or answer.public_key] if by_address else answer.addresses


def _ask(interface: str, name: str) -> schema.ResolveResult | None:
    try:
        return client.call(interface, schema.RESOLVE, schema.ResolveArguments(name))
    except client.DaemonError as error:
        if error.code != Code.UNKNOWN_PEER:
            raise
        return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
