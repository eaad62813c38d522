"""A WireGuard device of ours that obeys lines on stdin, for tests: `rekey KEY` starts a handshake with a peer
now, `hold SECONDS` keeps the interpreter lock inside C for so long. Each is answered by a line at once."""

from __future__ import annotations

import ctypes
import sys
import threading

from wh.net.links.tun import open_tun
from wh.net.links.tun_watch import set_mtu
from wh.net.wireguard.device import WireguardDevice
from wh.net.wireguard.uapi_server import open_uapi_socket
from whcore.keys import decode_key

# PyDLL calls keep the lock, unlike CDLL's.
LIBC_WITH_LOCK = ctypes.PyDLL(None)


def obey(device: WireguardDevice) -> None:
    for line in sys.stdin:
        command, argument = line.split()
        print(command, flush=True)
        if command == "rekey":
            device.datapath.rekey(decode_key(argument))
        elif command == "hold":
            LIBC_WITH_LOCK.sleep(int(argument))
    device.stop()


def main() -> None:
    interface = sys.argv[1]
    tun = open_tun(interface)[0]
    set_mtu(interface, 1420)
    device = WireguardDevice(tun, open_uapi_socket(interface))
    print("ready", flush=True)
    threading.Thread(target=obey, args=(device,), daemon=True).start()
    try:
        device.serve()
    finally:
        device.close()


if __name__ == "__main__":
    main()
