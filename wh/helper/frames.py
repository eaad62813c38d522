"""Messages between a daemon and its helper: 4 bytes of length, JSON; a descriptor may come with a reply."""

from __future__ import annotations

import os
import socket
import struct
from typing import TypeVar

import msgspec

from wh.helper.requests import FRAME_LEN_MAX

_LENGTH = struct.Struct("=I")
_DESCRIPTORS_MAX = 4

T = TypeVar("T")


class Gone(Exception):
    """The other side has ended, or sends what is no message."""


def send(peer: socket.socket, message: msgspec.Struct, descriptor: int | None = None) -> None:
    """Raises Gone, ValueError for a message that is too long. The descriptor stays the caller's."""
    body = msgspec.json.encode(message)
    if len(body) > FRAME_LEN_MAX:
        raise ValueError(f"a message has at most {FRAME_LEN_MAX} bytes")
    try:
        head = _LENGTH.pack(len(body))
        if descriptor is None:
            peer.sendall(head)
        else:
            socket.send_fds(peer, [head], [descriptor])
        peer.sendall(body)
    except OSError as error:
        raise Gone(str(error)) from None


def receive(peer: socket.socket) -> tuple[bytes, list[int]]:
    """The JSON, and descriptors, which are the caller's then. Raises Gone."""
    try:
        head, descriptors, _, _ = socket.recv_fds(peer, _LENGTH.size, _DESCRIPTORS_MAX)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
    except OSError as error:
        raise Gone(str(error)) from None
    try:
        return _receive_body(peer, head), descriptors
    except BaseException:
        close_all(descriptors)
        raise


def _receive_body(peer: socket.socket, head: bytes) -> bytes:
    if len(head) < _LENGTH.size:
        head += _receive_exactly(peer, _LENGTH.size - len(head))
    (length,) = _LENGTH.unpack(head)
    if length > FRAME_LEN_MAX:
        raise Gone(f"a message of {length} bytes")
    return _receive_exactly(peer, length)


def _receive_exactly(peer: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        try:
            part = peer.recv(min(length, 1 << 16))
        except OSError as error:
            raise Gone(str(error)) from None
        if not part:
            raise Gone("the end of the stream")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
