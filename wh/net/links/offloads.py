"""The offloads that a network device has on (linux/ethtool.h, ETHTOOL_GFEATURES): kept as they were."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import socket
import struct

# linux/sockios.h, linux/ethtool.h
_SIOCETHTOOL = 0x8946
_GFEATURES, _SFEATURES = 0x3A, 0x3B
_IFREQ = struct.Struct("@16sP16x")
_HEAD = struct.Struct("=II")  # command, number of words
_STATE = struct.Struct("=4I")  # available, requested, active, never changed: bits of one word
_CHANGE = struct.Struct("=2I")  # which bits, and what they shall be
_WORDS_MAX = 8

log = logging.getLogger(__name__)


class Features:
    """Of a device in this network namespace."""

    def __init__(self) -> None:
        self._noted: tuple[int, ...] = ()

    def note(self, name: str) -> None:
        """As it is now is right."""
        self._noted = _read(name)

    def restore(self, name: str) -> bool:
        """Whether something had to be put back. What the kernel does not take back is right from then on."""
        present = _read(name)
        if not self._noted or present == self._noted:
            return False
        _write(name, [(old ^ new, old) for old, new in zip(self._noted, present, strict=True)])
        before, self._noted = self._noted, _read(name)
        return self._noted == before


def _read(name: str) -> tuple[int, ...]:
    """The words of active features; none where they cannot be told."""
    buffer = ctypes.create_string_buffer(_HEAD.size + _WORDS_MAX * _STATE.size)
    _HEAD.pack_into(buffer, 0, _GFEATURES, _WORDS_MAX)
    if not _ask(name, buffer):
        return ()
    count = min(_HEAD.unpack_from(buffer)[1], _WORDS_MAX)
    return tuple(_STATE.unpack_from(buffer, _HEAD.size + at * _STATE.size)[2] for at in range(count))


def _write(name: str, changes: list[tuple[int, int]]) -> None:
    """changes: for each word the bits to change, and their values."""
    buffer = ctypes.create_string_buffer(_HEAD.size + len(changes) * _CHANGE.size)
    _HEAD.pack_into(buffer, 0, _SFEATURES, len(changes))
    for at, change in enumerate(changes):
        _CHANGE.pack_into(buffer, _HEAD.size + at * _CHANGE.size, *change)
    _ask(name, buffer)


def _ask(name: str, buffer: ctypes.Array[ctypes.c_char]) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, _SIOCETHTOOL, _IFREQ.pack(name.encode(), ctypes.addressof(buffer)))
        except OSError as error:  # the device has none, or went
            log.debug("features of %s: %s", name, error)
            return False
    return True
