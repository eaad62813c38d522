"""`wh down`."""

from __future__ import annotations

import time

import click

from wh.errors import Code, IpcError
from wh.ipc import client, schema
from whtools.application import command
from whtools.parameters import Interface

STOP_TIMEOUT_S = 15.0
POLL_INTERVAL_S = 0.02


@command("down")
@click.argument("interface", type=Interface(), metavar="INTERFACE")
def down(interface: str) -> None:
    """Stop the daemon of an interface; returns once it is gone."""
    stop(interface)


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
