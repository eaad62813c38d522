"""One WireGuard device of the soak: `soak_console.py INTERFACE PORT`. Each line on stdin gets one in answer.

key                                  its public key
join KEY ADDRESS managed|plain       add the other end; a managed peer's path is only what `path` says
path KEY HOST PORT                   send to KEY there from a fresh socket; the one before the last is dropped
rekey KEY                            start a handshake
add KEY ADDRESS HOST PORT            add a peer that is to be kept alive, so that it is called at once
remove KEY
stats KEY                            JSON: what tells whether all that has an effect
"""

from __future__ import annotations

import ipaddress
import json
import signal
import sys
import threading
from collections import deque

from wh.net.links.tun import open_tun
from wh.net.links.tun_watch import set_mtu
from wh.net.sockets import open_udp_sockets
from wh.net.wireguard.device import WireguardDevice
from wh.net.wireguard.uapi_server import open_uapi_socket
from wh.wire import address
from whcore.keys import SecretKey, decode_key, encode_key

MTU = 1420
KEEPALIVE_S = 1
SOCKETS_KEPT = 2
"""The current path's and the one before, which packets of the other end may still be on their way to."""


class Console:
    def __init__(self, device: WireguardDevice) -> None:
        self._device = device
        self._datapath = device.datapath
        self._key = SecretKey.generate()
        self._sockets: deque[int] = deque()
        self._datapath.set_secret_key(self._key)

    def obey(self, line: str) -> str:
        """Carry out one line; returns the answer."""
        command, *arguments = line.split()
        return str(getattr(self, f"do_{command}")(*arguments) or "ok")

    def do_key(self) -> str:
        return encode_key(self._key.public_key)

    def do_join(self, key: str, inner: str, kind: str) -> None:
        self._datapath.add_peer(decode_key(key), managed=kind == "managed")
        self._allow(key, inner)

    def _allow(self, key: str, inner: str) -> None:
        self._datapath.add_allowed_ip(decode_key(key), ipaddress.ip_address(inner).packed, 32)

    def do_path(self, key: str, host: str, port: str) -> None:
        number = self._fresh_socket()
        self._datapath.set_path(decode_key(key), (number, address.pack(host, int(port))))
        self._sockets.append(number)
        if len(self._sockets) > SOCKETS_KEPT:
            self._datapath.remove_socket(self._sockets.popleft())

    def _fresh_socket(self) -> int:
        v4, *others = open_udp_sockets(0)
        for other in others:
            other.close()
        return self._datapath.add_socket(v4.detach())

    def do_rekey(self, key: str) -> None:
        self._datapath.rekey(decode_key(key))

    def do_add(self, key: str, inner: str, host: str, port: str) -> None:
        peer = decode_key(key)
        self._datapath.add_peer(peer)
        self._allow(key, inner)
        self._datapath.set_path(peer, (self._device.sockets.socket_for(True), address.pack(host, int(port))))
        self._datapath.set_keepalive(peer, KEEPALIVE_S)

    def do_remove(self, key: str) -> None:
        self._datapath.remove_peer(decode_key(key))

    def do_stats(self, key: str) -> str:
        status = next(each for each in self._datapath.peers() if each.public_key == decode_key(key))
        return json.dumps(
            {
                "rx_bytes": status.rx_bytes,
                "last_handshake_ns": status.last_handshake_unix_ns,
                "path": status.path[1].hex() if status.path else None,
                "counters": self._datapath.counters(),
            }
        )


def obey_all(console: Console, device: WireguardDevice) -> None:
    """Until the end of stdin, or a line that cannot be carried out: then the soak has found something."""
    try:
        for line in sys.stdin:
            print(console.obey(line), flush=True)
    finally:
        device.stop()


def main() -> None:
    interface, port = sys.argv[1], int(sys.argv[2])
    tun = open_tun(interface)[0]
    set_mtu(interface, MTU)
    device = WireguardDevice(tun, open_uapi_socket(interface))
    signal.signal(signal.SIGTERM, lambda *_: device.stop())
    device.sockets.bind(port)
    console = Console(device)
    threading.Thread(target=obey_all, args=(console, device), daemon=True).start()
    try:
        device.serve()
    finally:
        device.close()


if __name__ == "__main__":
    main()
