"""`wh health`."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from wh.ipc import client, schema
from wh.system.exit_codes import EXIT_FAILED, EXIT_OK
from whcore.errors import WireHubError
from whtools.application import command
from whtools.interfaces import named_or_all
from whtools.outcome import report
from whtools.parameters import ALL, Interface
from whtools.terminal import counted, printable

TIMEOUT_S = 3.0
"""Health checks of containers are given 5 s."""

PLACES = {
    "host": "interface {}",
    "isolated": "interface {} in a namespace of its own (wh run)",
    "none": "public node {}",
}


@command("health")
@click.argument("interface", required=False, type=Interface(ALL), metavar="[INTERFACE | all]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def health(interface: str | None, as_json: bool) -> int:
    """Say whether a node does what it is there for, or why not.

    Its daemon answers, its interface is up, its key is a member's and nobody else's, and a public node
    answers where the network file names one. Members that are away are no illness. Exits with 0 where all is
    well, 1 where not, 3 without a daemon.
    """
    checks, code = fetch(named_or_all(interface or ALL))
    if as_json:
        shown: object = checks if interface in (None, ALL) else checks[0] if checks else None
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        for check in checks:
            click.echo("\n".join(lines(check)))
    if code == EXIT_OK and not all(check.healthy for check in checks):
        return EXIT_FAILED
    return code


def fetch(interfaces: list[str]) -> tuple[list[schema.Health], int]:
    """What each that answers tells; errors are printed. Also the exit code."""
    checks, code = [], EXIT_OK
    for interface in interfaces:
        try:
            checks.append(client.call(interface, schema.HEALTH, schema.NoArguments(), timeout=TIMEOUT_S))
        except WireHubError as error:
            code = report(error)
    return checks, code


def lines(check: schema.Health) -> Iterator[str]:
    """One line, and two for each problem."""
    facts = [PLACES[check.place].format(check.interface), f"{counted(check.servers, 'public node')} known"]
    if check.place != "none":
        facts.append(f"{counted(check.members, 'member')}, {check.direct} direct, {check.relayed} relayed")
    if check.over_tcp:
        facts.append("UDP is blocked, over TCP")
    yield printable(f"{'healthy' if check.healthy else 'unhealthy'}: {', '.join(facts)}")
    for problem in check.problems:
        yield printable(f"  {problem.text}")
        yield printable(f"    fix: {problem.fix}")
