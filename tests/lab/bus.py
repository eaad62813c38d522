"""A D-Bus of a lab's host, in place of the system's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from labnet import Host, wait_until

PROGRAM = Path(__file__).with_name("bus_name.py")


def start_bus(host: Host, *names: str) -> None:
    """For all programs of the host that are started from now on. names: that somebody has there."""
    path = host.directory / "bus"
    host.variables["DBUS_SYSTEM_BUS_ADDRESS"] = address = f"unix:path={path}"
    host.popen(["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}"])
    wait_until(path.exists, 10, "the bus listens")
    for name in names:
        owner = host.popen([sys.executable, PROGRAM, address, name], stdout=subprocess.PIPE)
        assert owner.stdout is not None and owner.stdout.readline() == "named\n"
