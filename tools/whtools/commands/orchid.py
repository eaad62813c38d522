"""`wh orchid`."""

from __future__ import annotations

import ipaddress

import click

from wh.config.model import DEFAULT_NAMESPACE
from whcore import keys
from whtools.application import command
from whtools.filters import read_key
from whtools.network_file import load
from whtools.parameters import NETWORK_FILE


@command("orchid")
@click.argument("file", required=False, type=NETWORK_FILE, metavar="[FILE]")
@click.option("--namespace", metavar="NAMESPACE", help="Namespace, where there is no network file [public].")
@click.option("--v1", is_flag=True, help="The address that WireHub of 2018 gave the key.")
def orchid(file: str | None, namespace: str | None, v1: bool) -> None:
    """Read a public key from standard input and print its ORCHID (RFC 7343).

    It is the IPv6 address that the peer has, without configuration, in every network of that namespace.
    """
    if file is not None and namespace is not None:
        raise click.UsageError("a network file excludes a namespace")
    context = load(file).namespace if file is not None else namespace or DEFAULT_NAMESPACE
    derive = keys.orchid_v1 if v1 else keys.orchid
    click.echo(str(ipaddress.IPv6Address(derive(read_key("-"), context.encode()))))
