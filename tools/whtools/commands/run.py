"""`wh run`."""

from __future__ import annotations

import os
import shutil

import click

from wh.errors import Code
from wh.inside import entering as inside
from wh.inside.names import addresses_of
from wh.ipc import client, schema
from wh.system.signals import become
from whtools.application import command
from whtools.outcome import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, print_error
from whtools.parameters import Interface


@command("run")
@click.argument("interface", type=Interface(), metavar="INTERFACE")
@click.argument("words", nargs=-1, required=True, metavar="-- COMMAND")
def run(interface: str, words: tuple[str, ...]) -> int:
    """Run a command inside an overlay: it sees the interface, its members and their names, and nothing else.

    For an interface of its own, as wh up makes with the word isolated; the command of an interface on the
    host runs on the host. Exits with the command's exit code; with 127
    where there is no such command, 126 where it cannot be run.
    """
    status = client.call(interface, schema.STATUS, schema.NoArguments())
    if go_inside(status):
        inside.show_names(names_of(status))
    try:
        become(words)
    except (OSError, ValueError) as error:
        missing = is_missing(words[0], error)
        print_error(
            f"cannot run {words[0]}: {getattr(error, 'strerror', error)}",
            Code.COMMAND_NOT_RUN,
            "it is looked up in PATH, inside as outside" if missing else "",
        )
        return EXIT_NOT_FOUND if missing else EXIT_NOT_EXECUTABLE


def is_missing(word: str, error: Exception) -> bool:
    """A directory of PATH that cannot be searched has no commands for us, as shells see it."""
    if "/" not in word:
        return shutil.which(word, os.F_OK) is None
    return isinstance(error, FileNotFoundError | NotADirectoryError)


def go_inside(status: schema.Status) -> bool:
    """Whether the interface has a namespace of its own to go to. Raises SystemSetupError."""
    if status.namespace_pid is None:
        return False
    inside.enter(status.namespace_pid)
    return True


def names_of(status: schema.Status) -> list[tuple[str, list[str]]]:
    """Host names and addresses of the members, and of this node."""
    own = (status.hostname, [address for address in (status.address, status.orchid) if address])
    others = [(peer.hostname, addresses_of(peer)) for peer in status.peers if not peer.alias]
    return [(name, addresses) for name, addresses in (own, *others) if name]
