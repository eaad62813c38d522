"""`wh netcheck`."""

from __future__ import annotations

import sys

import click
import msgspec

from wh.ipc import client, schema
from wh.system.exit_codes import EXIT_NO_DAEMON, EXIT_OK
from whcore.errors import WireHubError
from whtools.application import command
from whtools.interfaces import NOTHING_UP, named_or_all
from whtools.network_report import NetworkReport
from whtools.outcome import report
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
    checks, code = fetch(named_or_all(interface or ALL))
    if as_json:
        shown: object = checks if interface in (None, ALL) else checks[0] if checks else None
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        written = NetworkReport(colour=has_colour(sys.stdout))
        click.echo("\n".join(map(written.render, checks)), nl=bool(checks))
    return code


def fetch(interfaces: list[str]) -> tuple[list[schema.NetCheck], int]:
    """What each that answers tells; errors are printed. Also the exit code."""
    checks, code = [], EXIT_OK
    for interface in interfaces:
        try:
            checks.append(client.call(interface, schema.NETCHECK, schema.NoArguments(), timeout=TIMEOUT_S))
        except WireHubError as error:
            code = report(error)
    return checks, code
