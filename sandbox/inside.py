"""Sockets of this process in the network of a lab's host: senders and receivers that cost no process."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from labnet import Host

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h
NETNS_DIRECTORY = Path("/run/netns")

_libc = ctypes.CDLL(None, use_errno=True)


def inside(host: Host, action: Callable[[], T]) -> T:
    """action's result; it runs in a thread of its own in the host's namespace, where its sockets stay."""

    def enter_and_act() -> T:
        with (NETNS_DIRECTORY / host.namespace).open() as namespace:
            if _libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        return action()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter_and_act).result()


def udp_socket(host: Host, address: str = "", port: int = 0, *, timeout_s: float = 5.0) -> socket.socket:
    """Bound to address and port on the host."""

    def bound() -> socket.socket:
        udp = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((address, port))
        return udp

    made = inside(host, bound)
    made.settimeout(timeout_s)
    return made
