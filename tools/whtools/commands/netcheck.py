"""`wh netcheck`."""

from __future__ import annotations

import sys

import click

from wh.ipc import client, schema
from wh.system.exit_codes import EXIT_NO_DAEMON
from whtools.application import command
from whtools.interfaces import NOTHING_UP, ask_each, named_or_all, print_json
from whtools.network_report import NetworkReport
from whtools.parameters import ALL, Interface
from whtools.terminal import has_colour

TIMEOUT_S = 5.0


@command("netcheck")
@click.argument("interface", required=False, type=Interface(ALL), metavar="[INTERFACE | all]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def netcheck(interface: str | None, as_json: bool) -> int:
    """Show what kind of network this is: whether UDP works, how others see us, what the NAT does, which ports
    the router maps, the nearest relays, and why a peer is relayed.

    It tells what the daemon has found out; that takes a few seconds after `wh up`, and is repeated every 5
    minutes and with each change.
    """
    if interface is None and not client.list_interfaces():
        click.echo("[]") if as_json else click.echo(NOTHING_UP)
        return EXIT_NO_DAEMON
    checks, code = ask_each(named_or_all(interface or ALL), schema.NETCHECK, TIMEOUT_S)
    if as_json:
        print_json(checks, interface)
    else:
        written = NetworkReport(colour=has_colour(sys.stdout))
        click.echo("\n".join(map(written.render, checks)), nl=bool(checks))
    return code
