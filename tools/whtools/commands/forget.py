"""`wh forget`."""

from __future__ import annotations

import click

from wh.ipc import client, schema
from whtools.application import command
from whtools.interfaces import interface_and_peer
from whtools.parameters import InterfaceOrPeer, Peer


@command("forget")
@click.argument("interface", type=InterfaceOrPeer(), metavar="[INTERFACE]")
@click.argument("peer", required=False, type=Peer(), metavar="{KEY | NAME}")
def forget(interface: str, peer: str | None) -> None:
    """Forget where a peer was found: its paths, its sessions and its place in the routing table.

    A peer of the network file stays a member and is looked for again.
    """
    interface, peer = interface_and_peer(interface, peer)
    client.call(interface, schema.FORGET, schema.PeerArguments(peer))
