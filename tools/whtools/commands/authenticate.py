"""`wh authenticate`."""

from __future__ import annotations

import os

import click
import msgspec

from wh.ipc import client, schema
from whtools.application import command
from whtools.parameters import Interface, Peer
from whtools.place import describe_place
from whtools.private_key import read_key_file, to_descriptor

TIMEOUT_S = 30.0


@command("authenticate")
@click.argument("interface", type=Interface(), metavar="INTERFACE")
@click.argument("peer", type=Peer(), metavar="{KEY | NAME}")
@click.argument("key_file", type=click.Path(), metavar="KEYFILE")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def authenticate(interface: str, peer: str, key_file: str, as_json: bool) -> None:
    """Claim an alias at a peer, with the alias's private key.

    The peer's network file has the public half on an alias line; it becomes a trust line of our own key.
    """
    secret = read_key_file(key_file)
    descriptor = to_descriptor(secret)
    secret.close()
    try:
        arguments = schema.AuthenticateArguments(peer)
        place = client.call(interface, schema.AUTHENTICATE, arguments, timeout=TIMEOUT_S, file=descriptor)
    finally:
        os.close(descriptor)
    click.echo(msgspec.json.encode(place).decode() if as_json else "\n".join(describe_place(place)))
