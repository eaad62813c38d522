"""The client's side of the cross-platform WireGuard configuration protocol (wireguard.com/xplatform)."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

UAPI_DIRECTORY = Path("/var/run/wireguard")
ANSWER_TIMEOUT_S = 120.0


class UapiError(Exception):
    """The device refused a request, or went away."""


def set_device(interface: str, lines: Iterable[str]) -> None:
    """Send one set request. Raises UapiError."""
    text = "\n".join(["set=1", *lines]) + "\n\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as uapi:
        uapi.settimeout(ANSWER_TIMEOUT_S)
        try:
            uapi.connect(str(UAPI_DIRECTORY / f"{interface}.sock"))
            uapi.sendall(text.encode())
            answer = _read_answer(uapi)
        except OSError as error:
            raise UapiError(f"{interface}: {error}") from error
    if answer != "errno=0":
        raise UapiError(f"{interface} answered {answer or 'nothing'}")


def _read_answer(uapi: socket.socket) -> str:
    answer = b""
    while not answer.endswith(b"\n\n"):
        more = uapi.recv(4096)
        if not more:
            break
        answer += more
    return answer.decode().strip()


def peer_lines(public_key: bytes, allowed_ip: str) -> list[str]:
    return [f"public_key={public_key.hex()}", f"allowed_ip={allowed_ip}"]


def invented_peers(count: int, seed: int) -> Iterator[str]:
    """Lines that add peers whom nobody is, each with one address of 10.128.0.0/9. A seed gives them again."""
    random_bytes = random.Random(seed).randbytes  # noqa: S311 - a repeatable bench, not a key
    for number in range(count):
        key = bytearray(random_bytes(32))
        key[31] &= 0x7F  # below 2^255, as RFC 7748 writes points
        octets = (10, 128 | number >> 16, number >> 8 & 0xFF, number & 0xFF)
        yield from peer_lines(bytes(key), ".".join(map(str, octets)) + "/32")
