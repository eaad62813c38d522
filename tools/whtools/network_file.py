"""The network file that a command line names: a file, or what a shell makes of <(...)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from wh.config.model import RESOLVED_HOSTNAME, Network
from wh.config.parser import MAX_FILE_SIZE, decode, unreadable
from wh.system.files import open_input, read_input, write_all
from whcore.keys import encode_key
from whtools.outcome import print_warning

NAMES_TOLD = 3


def load(file: str) -> Network:
    """Raises ConfigError."""
    try:
        data = read_input(file, MAX_FILE_SIZE + 1)
    except OSError as error:
        raise unreadable(file, error) from None
    return decode(data, path=file)


def open_network(file: str) -> tuple[str | None, int, Network]:
    """Where it can be read again, or None for a pipe; a descriptor at its start; what it says. Raises
    ConfigError."""
    try:
        descriptor = open_input(file)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            data = os.pread(descriptor, MAX_FILE_SIZE + 1, 0)
            return str(Path(file).resolve()), descriptor, decode(data, path=file)
        with os.fdopen(descriptor, "rb") as pipe:
            data = pipe.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise unreadable(file, error) from None
    network = decode(data, path=file)
    return None, in_memory(data), network


def warn_of_stranger(own_key: bytes, network: Network, key_file: str | None) -> None:
    """A node that is on nobody's list starts, and nobody answers it."""
    members = [peer for peer in network.peers if peer.trusted and not peer.is_alias]
    if not members or any(peer.key == own_key for peer in members):
        return
    if key_file is None:
        print_warning(
            "this node is no member: it runs with a key that was made for this run",
            hint="name the key of this machine's trust line: private-key FILE",
        )
        return
    key = encode_key(own_key)
    print_warning(
        f"this node is no member: its key {key} is on no trust line",
        hint=f"use the right key instead of {key_file}, or add to the file on all machines: trust NAME {key}",
    )


def doubtful_names(network: Network) -> list[str]:
    """Of members, that not every resolver looks up."""
    names = [peer.hostname for peer in network.peers if peer.trusted and peer.hostname]
    return [name for name in names if RESOLVED_HOSTNAME.fullmatch(name) is None]


def warn_of_names(names: list[str]) -> None:
    if names:
        print_warning(
            f"systemd-resolved refuses, and other resolvers may: {', '.join(names[:NAMES_TOLD])}"
            f"{' and others' if len(names) > NAMES_TOLD else ''}",
            hint="host names have letters, digits and, between them, hyphens",
        )


def in_memory(data: bytes) -> int:
    """A descriptor of anonymous memory that holds it, at its start. The caller closes it."""
    descriptor = os.memfd_create("wirehub-network", os.MFD_CLOEXEC)
    write_all(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
