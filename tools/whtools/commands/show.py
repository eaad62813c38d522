"""`wh show`, and bare `wh`."""

from __future__ import annotations

import sys
import time

import click
import msgspec

from wh.ipc import client, schema
from wh.system.exit_codes import EXIT_NO_DAEMON, EXIT_OK
from whtools.application import command
from whtools.interfaces import NOTHING_UP, ask_each, named_or_all, print_json
from whtools.parameters import ALL, Interface, OneOf
from whtools.render import Renderer
from whtools.terminal import has_colour

INTERFACES = "interfaces"
STATUS_TIMEOUT_S = 5.0


@command("show")
@click.argument(
    "interface", required=False, type=Interface(ALL, INTERFACES), metavar="[INTERFACE | all | interfaces]"
)
@click.argument("detail", required=False, type=OneOf("light", ALL), metavar="[light | all]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(interface: str | None, detail: str | None, as_json: bool) -> int:
    """Show interfaces: their network, our key, the peers and the paths to them.

    `light`, the default, shows the network's members; `all` also what the DHT knows. `interfaces` lists names
    only.
    """
    if interface == INTERFACES:
        return _show_names(as_json)
    if interface is None and not client.list_interfaces():
        return _show_nothing(as_json)
    names = named_or_all(interface or ALL)
    statuses, code = ask_each(names, schema.STATUS, STATUS_TIMEOUT_S)
    if as_json:
        print_json(statuses, interface)
    else:
        renderer = Renderer(colour=has_colour(sys.stdout), now_unix=time.time(), everything=detail == ALL)
        click.echo("\n".join(map(renderer.render, statuses)), nl=bool(statuses))
    return code


def _show_names(as_json: bool) -> int:
    names = client.list_interfaces()
    if as_json:
        click.echo(msgspec.json.encode(names).decode())
    elif names:
        click.echo("\n".join(names))
    return EXIT_OK


def _show_nothing(as_json: bool) -> int:
    click.echo("[]") if as_json else click.echo(NOTHING_UP)
    return EXIT_NO_DAEMON
