"""`wh run`."""

from __future__ import annotations

import os

import click

from wh.errors import UsageError
from wh.inside import entering as inside
from wh.ipc import client, schema
from whtools.application import command
from whtools.parameters import Interface


@command("run")
@click.argument("interface", type=Interface(), metavar="INTERFACE")
@click.argument("words", nargs=-1, required=True, metavar="-- COMMAND")
def run(interface: str, words: tuple[str, ...]) -> None:
    """Run a command inside an overlay: it sees the interface, its members and their names, and nothing else.

    For an interface of its own, as wh up makes with the word isolated; the command of an interface on the
    host runs on the host. Exits with the command's exit code.
    """
    status = client.call(interface, schema.STATUS, schema.NoArguments())
    if go_inside(status):
        inside.show_names(names_of(status))
    try:
        os.execvp(words[0], words)  # noqa: S606
    except OSError as error:
        raise UsageError(f"cannot run {words[0]}: {error.strerror}") from None


def go_inside(status: schema.Status) -> bool:
    """Whether the interface has a namespace of its own to go to. Raises SystemSetupError."""
    if status.namespace_pid is None:
        return False
    inside.enter(status.namespace_pid)
    return True


def names_of(status: schema.Status) -> list[tuple[str, list[str]]]:
    """Host names and addresses of the members, and of this node."""
    own = (status.hostname, [status.address, status.orchid])
    others = [(peer.hostname, [peer.address, peer.orchid]) for peer in status.peers if not peer.alias]
    return [
        (name, [address for address in addresses if address]) for name, addresses in (own, *others) if name
    ]
