"""Which daemons a command is about."""

from __future__ import annotations

from wh.errors import Code, IpcError, UsageError
from wh.ipc import client
from whtools.parameters import ALL

NOTHING_UP = "no interface is up; start one with: wh up FILE"


def named_or_all(interface: str) -> list[str]:
    """The interface itself; for `all`, each one that has a daemon. Raises IpcError where none has."""
    if interface != ALL:
        return [interface]
    running = client.list_interfaces()
    if not running:
        raise IpcError("no interface is up", code=Code.NO_DAEMON, hint="start one with: wh up FILE")
    return running


def named_or_only(interface: str | None) -> list[str]:
    """The interface itself, or all, or the only one where nothing was said."""
    return named_or_all(the_only_one(interface) if interface is None else interface)


def interface_and_peer(first: str, second: str | None) -> tuple[str, str]:
    """`INTERFACE PEER`, or `PEER` where only one interface is up."""
    if second is not None:
        return first, second
    only = the_only_one(None)
    if first == only:
        raise UsageError(f"of the peer there is no word behind {first}", hint="name it, or give its key")
    return only, first


def the_only_one(interface: str | None) -> str:
    """The named interface, or the one that is up. Raises IpcError where none is, UsageError where several
    are."""
    if interface is not None:
        return interface
    running = named_or_all(ALL)
    if len(running) > 1:
        raise UsageError(
            "more than one interface is up", hint=f"say which: interface {{{' | '.join(running)}}}"
        )
    return running[0]
