"""`wh health`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from wh.ipc import schema
from wh.system.exit_codes import EXIT_FAILED, EXIT_OK
from whtools.application import command
from whtools.interfaces import ask_each, named_or_all, print_json
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
    checks, code = ask_each(named_or_all(interface or ALL), schema.HEALTH, TIMEOUT_S)
    if as_json:
        print_json(checks, interface)
    else:
        for check in checks:
            click.echo("\n".join(lines(check)))
    if code == EXIT_OK and not all(check.healthy for check in checks):
        return EXIT_FAILED
    return code


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
