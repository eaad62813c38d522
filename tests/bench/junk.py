"""Junk at a fixed rate to one UDP port, by sendmmsg: prepared datagrams in turns.

Called by bench_junk on the attacking host. Standard input: JSON {"host", "port", "rate", "seconds",
"datagrams" (hex)}. Prints how many were sent.
"""

from __future__ import annotations

import ctypes
import json
import socket
import sys
import time

BATCH = 40


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Header(ctypes.Structure):
    """struct msghdr of a connected socket without ancillary data."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_len", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(Iovec)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_len", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [("header", Header), ("sent", ctypes.c_uint)]


def main() -> None:
    order = json.load(sys.stdin)
    datagrams = [bytes.fromhex(text) for text in order["datagrams"]]
    vectors = (Iovec * len(datagrams))(*(Iovec(each, len(each)) for each in datagrams))
    messages = (Message * len(datagrams))()
    for message, vector in zip(messages, vectors, strict=True):
        message.header.vectors, message.header.vector_count = ctypes.pointer(vector), 1
    sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
    sent = at = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect((order["host"], order["port"]))
        started = time.monotonic()
        while time.monotonic() - started < order["seconds"]:
            owed = int((time.monotonic() - started) * order["rate"]) - sent
            if owed < BATCH:
                time.sleep((BATCH - owed) / order["rate"])
                continue
            sent += max(sendmmsg(udp.fileno(), ctypes.byref(messages[at]), BATCH, 0), 0)
            at = (at + BATCH) % (len(datagrams) - BATCH + 1)
    print(sent)


if __name__ == "__main__":
    main()
