"""The client side of WireGuard's configuration protocol, and what a device of it needs, for tests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from wh.net.wireguard.uapi_server import FullControl
from whcore import uapi
from whcore.datapath import Datapath

PATIENCE_S = 10.0


class FakeDevice:
    """Sockets that are numbers: 4 for IPv4, 6 for IPv6."""

    def __init__(self) -> None:
        self.listen_port = 1234
        self.fwmark = 0
        self.numbers: dict[bool, int] = {}
        self.refusal: Exception | None = None

    def bind(self, port: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.listen_port = port

    def set_fwmark(self, mark: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.fwmark = mark

    def socket_for(self, v4: bool) -> int:
        try:
            return self.numbers[v4]
        except KeyError:
            raise OSError(97, "no socket of that family") from None


class UapiClient:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._stream = connection.makefile("rb")

    def send(self, text: str) -> None:
        self.connection.sendall(text.encode())

    def answer(self) -> list[tuple[str, str]]:
        """The lines of one answer without their closing errno. Raises Refusal, EOFError."""
        lines = []
        while line := self._stream.readline().decode().removesuffix("\n"):
            name, _, value = line.partition("=")
            lines.append((name, value))
        if not lines:
            raise EOFError
        name, value = lines.pop()
        assert name == "errno"
        if value != "0":
            assert value.startswith("-"), "wg takes the negative number for the errno"
            raise Refusal(-int(value))
        return lines

    def get(self) -> list[tuple[str, str]]:
        self.send("get=1\n\n")
        return self.answer()

    def set(self, *lines: str) -> None:
        self.send("set=1\n" + "".join(line + "\n" for line in lines) + "\n")
        assert self.answer() == []

    def refusal(self, *lines: str) -> int:
        """The errno of a set request, 0 where it was carried out."""
        try:
            self.set(*lines)
        except Refusal as refusal:
            return refusal.number
        return 0

    def peers(self) -> dict[str, list[tuple[str, str]]]:
        """By public key (hexadecimal) the lines below it."""
        found: dict[str, list[tuple[str, str]]] = {}
        for name, value in self.get():
            if name == "public_key":
                found[value] = lines = []
            elif found:
                lines.append((name, value))
        return found

    def device(self) -> dict[str, str]:
        """The lines above the peers."""
        found = {}
        for name, value in self.get():
            if name == "public_key":
                break
            found[name] = value
        return found

    def close(self) -> None:
        self._stream.close()
        self.connection.close()


class Refusal(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def served(
    datapath: Datapath,
    device: uapi.Device,
    policy: uapi.Policy | None = None,
    lock: AbstractContextManager[object] | None = None,
) -> Iterator[UapiClient]:
    """A connection to the protocol, without a server around it."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE_S)

    def serve() -> None:
        with theirs:
            uapi.serve(theirs.fileno(), datapath, device, policy or FullControl(), lock or threading.Lock())

    thread = threading.Thread(target=serve)
    thread.start()
    client = UapiClient(ours)
    try:
        yield client
    finally:
        with contextlib.suppress(OSError):  # the server ended the connection
            ours.shutdown(socket.SHUT_RDWR)
        client.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
