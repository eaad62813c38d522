"""A program with a name on a D-Bus, until it is ended: ADDRESS NAME. It writes a line when it has it."""

import signal
import sys

from jeepney import DBusAddress, new_method_call
from jeepney.io.blocking import open_dbus_connection

address, name = sys.argv[1:]
bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
with open_dbus_connection(address) as connection:
    connection.send_and_get_reply(new_method_call(bus, "RequestName", "su", (name, 0)))
    print("named", flush=True)
    signal.pause()
