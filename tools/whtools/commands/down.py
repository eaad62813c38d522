"""`wh down`."""

from __future__ import annotations

import time

import click

from wh.errors import Code, IpcError
from wh.ipc import client, schema
from wh.system.exit_codes import EXIT_OK
from whcore.errors import WireHubError
from whtools.application import command
from whtools.interfaces import named_or_only
from whtools.outcome import report
from whtools.parameters import ALL, Interface

STOP_TIMEOUT_S = 15.0
POLL_INTERVAL_S = 0.02


@command("down")
@click.argument("interface", required=False, type=Interface(ALL), metavar="[INTERFACE | all]")
def down(interface: str | None) -> int:
    """Stop the daemon of an interface; returns once it is gone.

    Without a word, of the only one that is up.
    """
    code = EXIT_OK
    for name in named_or_only(interface):
        try:
            stop(name)
        except WireHubError as error:
            code = report(error)
    return code


def stop(interface: str) -> None:
    """Raises IpcError."""
    client.call(interface, schema.DOWN, schema.NoArguments(), timeout=STOP_TIMEOUT_S)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while interface in client.list_interfaces():
        if time.monotonic() > deadline:
            raise IpcError(
                f"the daemon on {interface} did not stop within {STOP_TIMEOUT_S:.0f} s", code=Code.IPC_TIMEOUT
            )
        time.sleep(POLL_INTERVAL_S)
