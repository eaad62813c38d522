"""`wh forget`."""

from __future__ import annotations

import click

from wh.ipc import client, schema
from whtools.application import command
from whtools.parameters import Interface, Peer


@command("forget")
@click.argument("interface", type=Interface(), metavar="INTERFACE")
@click.argument("peer", type=Peer(), metavar="{KEY | NAME}")
def forget(interface: str, peer: str) -> None:
    """Forget where a peer was found: its paths, its sessions and its place in the routing table.

    A peer of the network file stays a member and is looked for again.
    """
    client.call(interface, schema.FORGET, schema.PeerArguments(peer))
