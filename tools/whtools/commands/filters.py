"""Help and completion of the quick filters; whtools.filters does their work, before click is imported."""

from __future__ import annotations

import click

from whtools.application import command
from whtools.parameters import NETWORK_FILE


@command("pubkey")
@click.option("--wg", is_flag=True, help="Print 44 characters of standard base64, as wg does.")
def pubkey(wg: bool) -> None:
    """Read a private key from standard input and print its public key.

    The private key is base64 text, as `wh genkey` and `wg genkey` print it.
    """


@command("workbit")
@click.argument("file", required=False, type=NETWORK_FILE, metavar="[FILE]")
@click.option("--namespace", metavar="NAMESPACE", help="Namespace, where there is no network file [public].")
def workbit(file: str | None, namespace: str | None) -> None:
    """Read a public key from standard input and print its workbits in a network's namespace.

    Workbits are the proof of work in a key: the leading zero bits of a hash of key and namespace.
    """


@command("bid")
@click.argument("key1", metavar="KEY")
@click.argument("key2", metavar="KEY")
def bid(key1: str, key2: str) -> None:
    """Print the bucket index between two keys: 1 + the length of the prefix they share, in bits.

    A hyphen reads a key from standard input.
    """
