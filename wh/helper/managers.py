"""Which programs that manage networks run on this host: those that say so on the system's D-Bus."""

from __future__ import annotations

import logging
from collections.abc import Mapping

MANAGERS: Mapping[str, str] = {
    "org.freedesktop.NetworkManager": "NetworkManager",
    "org.freedesktop.network1": "systemd-networkd",
    "net.connman": "ConnMan",
    "org.opensuse.Network": "wicked",
}
"""Name on the bus -> what people call it."""

ANSWER_S = 2.0

log = logging.getLogger(__name__)


def running_managers() -> list[str]:
    """None where there is no bus. Blocks, at most some seconds."""
    try:
        owned = _names()
    except Exception as error:  # whatever is wrong with a bus, it only leaves us without an answer
        log.info("the system's D-Bus does not answer: %s", error)
        return []
    return [name for owner, name in MANAGERS.items() if owner in owned]


def _names() -> set[str]:
    """All names on the bus that somebody has."""
    from jeepney import DBusAddress, new_method_call  # type: ignore[import-untyped]
    from jeepney.io.blocking import open_dbus_connection  # type: ignore[import-untyped]

    bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
    with open_dbus_connection("SYSTEM") as connection:
        reply = connection.send_and_get_reply(new_method_call(bus, "ListNames"), timeout=ANSWER_S)
    return set(reply.body[0])
