"""A relay with one channel: `relay_process.py PORT OPENER_ADDRESS TARGET_ADDRESS`, both clients on PORT too.

Prints the two leg ids and forwards until the end of stdin; then prints the data plane's counters as JSON.
"""

from __future__ import annotations

import json
import sys

from wh.net.sockets import open_udp_sockets
from wh.wire import address
from whcore.datapath import Datapath


def main() -> None:
    port = int(sys.argv[1])
    plane = Datapath(None)
    try:
        v4, *others = open_udp_sockets(port)
        for other in others:
            other.close()
        number = plane.add_socket(v4.detach())
        plane.start()
        opener, target = ((number, address.pack(client, port)) for client in sys.argv[2:])
        print(json.dumps(plane.relay_open(opener, target, trusted=True)), flush=True)
        sys.stdin.read()
        print(json.dumps(plane.counters()), flush=True)
    finally:
        plane.close()


if __name__ == "__main__":
    main()
