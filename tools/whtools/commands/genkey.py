"""`wh genkey`."""

from __future__ import annotations

import sys

import click

from wh.config.model import DEFAULT_NAMESPACE, DEFAULT_WORKBIT
from wh.system.standard_streams import STDOUT, output_error
from whtools.application import command
from whtools.key_search import WORKBIT_MAX, search
from whtools.network_file import load
from whtools.parameters import NETWORK_FILE, WholeNumber


@command("genkey")
@click.argument("file", required=False, type=NETWORK_FILE, metavar="[FILE]")
@click.option("--workbit", type=WholeNumber(0, WORKBIT_MAX), metavar="N", help="Leading zero bits [8].")
@click.option("--namespace", metavar="NAMESPACE", help="Where the workbits count [public].")
@click.option(
    "--threads", type=WholeNumber(0, 1024), default=0, metavar="N", help="0, the default: all cores."
)
def genkey(file: str | None, workbit: int | None, namespace: str | None, threads: int) -> None:
    """Make a private key and print it as 44 characters of base64.

    Its public key has the workbits that the network FILE asks for, or those given. Each one doubles the work.
    """
    if file is not None:
        if workbit is not None or namespace is not None:
            raise click.UsageError("a network file excludes workbit and namespace")
        network = load(file)
        workbit, namespace = network.workbit, network.namespace
    secret = search(
        DEFAULT_WORKBIT if workbit is None else workbit, namespace or DEFAULT_NAMESPACE, threads=threads
    )
    sys.stdout.flush()
    try:
        secret.write_fd(STDOUT)
    except OSError as error:
        raise output_error(error) from None
