"""`wh ping`."""

from __future__ import annotations

import time

import click
import msgspec

from wh.errors import Code
from wh.ipc import client, schema
from whtools.application import command
from whtools.outcome import EXIT_FAILED, EXIT_OK
from whtools.parameters import Interface, Peer
from whtools.terminal import printable

INTERVAL_S = 1.0
TIMEOUT_S = 10.0


@command("ping")
@click.argument("interface", type=Interface(), metavar="INTERFACE")
@click.argument("peer", type=Peer(), metavar="{KEY | NAME}")
@click.option(
    "--count", type=click.IntRange(1), default=1, metavar="N", help="How many times, once a second [1]."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each answer.")
def ping(interface: str, peer: str, count: int, as_json: bool) -> int:
    """Ask a peer's WireHub for an answer on the control channel, and print the round trip.

    It reaches any node of the network, also one without an address. For the tunnel itself use ping(8).
    """
    answered = 0
    for number in range(count):
        if number:
            time.sleep(INTERVAL_S)
        result = _ping_once(interface, peer)
        if result is not None:
            answered += 1
            click.echo(msgspec.json.encode(result).decode() if as_json else describe(result))
        elif not as_json:
            click.echo("offline")
    return EXIT_OK if answered else EXIT_FAILED


def _ping_once(interface: str, peer: str) -> schema.PingResult | None:
    """None where the peer did not answer."""
    try:
        return client.call(interface, schema.PING, schema.PeerArguments(peer), timeout=TIMEOUT_S)
    except client.DaemonError as error:
        if error.code != Code.IPC_TIMEOUT:
            raise
        return None


def describe(result: schema.PingResult) -> str:
    name = printable(result.hostname or result.public_key)
    way = f"relay {result.via}" if result.via else f"direct {result.endpoint}"
    return f"ping {name}: {printable(way)} time={result.rtt_ms:.2f}ms"
