"""`wh lookup`."""

from __future__ import annotations

import sys

import click
import msgspec

from wh.ipc import client, schema
from wh.system.exit_codes import EXIT_FAILED, EXIT_OK
from whtools.application import command
from whtools.interfaces import interface_and_peer
from whtools.parameters import InterfaceOrPeer, Peer
from whtools.terminal import counted, is_terminal, printable

TIMEOUT_S = 30.0
_ERASE_LINE = "\r\x1b[K"


@command("lookup")
@click.argument("interface", type=InterfaceOrPeer(), metavar="[INTERFACE]")
@click.argument("peer", required=False, type=Peer(), metavar="{KEY | NAME}")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lookup(interface: str, peer: str | None, as_json: bool) -> int:
    """Ask the network where a peer is: the addresses and relays it has published."""
    interface, peer = interface_and_peer(interface, peer)
    watched = is_terminal(sys.stderr)
    try:
        result = client.call(
            interface,
            schema.LOOKUP,
            schema.PeerArguments(peer),
            _print_progress if watched else None,
            TIMEOUT_S,
        )
    finally:
        if watched:
            sys.stderr.write(_ERASE_LINE)
    if as_json:
        click.echo(msgspec.json.encode(result).decode())
    else:
        click.echo("\n".join(describe(result)))
    return EXIT_OK if result.found else EXIT_FAILED


def describe(result: schema.LookupResult) -> list[str]:
    if not result.found:
        return [f"not found ({result.elapsed_ms:.0f} ms): no node that was asked has a record of it"]
    return [
        *(f"direct {printable(candidate)}" for candidate in result.candidates),
        *(f"relay {printable(relay)}" for relay in result.relays),
        f"found over {counted(result.hops, 'hop')} in {result.elapsed_ms:.0f} ms",
    ]


def _print_progress(step: msgspec.Raw) -> None:
    progress = msgspec.json.decode(step, type=schema.LookupProgress)
    sys.stderr.write(
        f"{_ERASE_LINE}{counted(progress.asked, 'server')} asked, closest in bucket {progress.closest_bucket}"
    )
    sys.stderr.flush()
