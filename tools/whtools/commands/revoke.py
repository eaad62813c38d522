"""`wh revoke`."""

from __future__ import annotations

import click
import msgspec

from wh.ipc import client, schema
from whtools.application import command
from whtools.interfaces import the_only_one
from whtools.parameters import Interface, Peer
from whtools.terminal import printable


@command("revoke")
@click.argument("peer", type=Peer(), metavar="{NAME | KEY}")
@click.option("--interface", type=Interface(), metavar="INTERFACE", help="Where more than one is up.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def revoke(peer: str, interface: str | None, as_json: bool) -> None:
    """Take a member, or an invitation that nobody has used, out of the network file. Its tunnel stops.

    This holds for this machine: others that have the member in their files must revoke it too.
    """
    revoked = client.call(the_only_one(interface), schema.REVOKE, schema.PeerArguments(peer))
    if as_json:
        click.echo(msgspec.json.encode(revoked).decode())
    else:
        what = "the invitation of" if revoked.kind == "alias" else "the member"
        click.echo(f"revoked {what} {printable(revoked.hostname or revoked.public_key)}")
