"""`wh ping`."""

from __future__ import annotations

import time

import click
import msgspec

from wh.errors import Code
from wh.ipc import client, schema
from wh.system.exit_codes import EXIT_OK
from whtools.application import command
from whtools.interfaces import interface_and_peer
from whtools.outcome import report
from whtools.parameters import InterfaceOrPeer, Peer, WholeNumber
from whtools.terminal import printable

INTERVAL_S = 1.0
TIMEOUT_S = 10.0
SILENCE = (Code.NO_ANSWER, Code.NOT_FOUND)
"""What a peer that is offline looks like; it may come back while we count."""


@command("ping")
@click.argument("interface", type=InterfaceOrPeer(), metavar="[INTERFACE]")
@click.argument("peer", required=False, type=Peer(), metavar="{KEY | NAME}")
@click.option(
    "--count", type=WholeNumber(1), default=1, metavar="N", help="How many times, once a second [1]."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each answer.")
def ping(interface: str, peer: str | None, count: int, as_json: bool) -> int:
    """Ask a peer's WireHub for an answer on the control channel, and print the round trip.

    It reaches any node of the network, also one without an address. For the tunnel itself use ping(8).
    """
    interface, peer = interface_and_peer(interface, peer)
    silences = []
    for number in range(count):
        if number:
            time.sleep(INTERVAL_S)
        try:
            result = client.call(interface, schema.PING, schema.PeerArguments(peer), timeout=TIMEOUT_S)
        except client.DaemonError as error:
            if error.code not in SILENCE:
                raise
            silences.append(error)
            if not as_json:
                click.echo("offline")
        else:
            click.echo(msgspec.json.encode(result).decode() if as_json else describe(result))
    return report(silences[-1]) if len(silences) == count else EXIT_OK


def describe(result: schema.PingResult) -> str:
    name = printable(result.hostname or result.public_key)
    way = f"relay {result.via}" if result.via else f"direct {result.endpoint}"
    return f"ping {name}: {printable(way)} time={result.rtt_ms:.2f}ms"
