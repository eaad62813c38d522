"""The daemon's end: what needs privileges that it has not, asked of the helper; or done here, by a daemon
that has no helper, since its user may do it or nobody may."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterable
from typing import Any, Literal, Protocol

import msgspec

from wh.errors import Code, ConfigError, SystemSetupError, UserError
from wh.helper.frames import Gone, close_all, receive, send
from wh.helper.process import CONFIG_FD, answer
from wh.helper.requests import (
    Charge,
    EndGatewayWorker,
    FileEdit,
    FindManagers,
    NamedMember,
    OpenLog,
    OpenNetworkFile,
    Refusal,
    RemoveNames,
    RemoveSocket,
    Reply,
    Request,
    StartGatewayWorker,
    WriteNames,
)
from wh.helper.verbs import Office
from wh.naming.table import NameEntry
from wh.system.python import python_module, spawn

ANSWER_S = 30.0
"""For a hosts file on a slow disk, or one that others lock."""


class Channel(Protocol):
    """Carries requests to whoever does them. Blocks; thread-safe."""

    def ask(self, request: Any) -> tuple[Reply, int | None]:
        """The reply, and its descriptor. Raises SystemSetupError where nobody answers."""

    def close(self) -> None: ...


class OwnHands:
    """No other process: this one does it."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._lock = threading.Lock()

    def ask(self, request: Any) -> tuple[Reply, int | None]:
        with self._lock:
            reply, result = answer(self._office, msgspec.json.encode(request))
        return reply, result.descriptor

    def close(self) -> None:
        self._office.worker.end()


class HelperProcess:
    """Started at once; it begins with the charge that it is given, or ends with this object."""

    def __init__(self, charge: Charge, config_fd: int) -> None:
        """config_fd: of the network file. Raises SystemSetupError."""
        self._lock = threading.Lock()
        self._peer, theirs = socket.socketpair()
        self._peer.settimeout(ANSWER_S)
        with theirs:
            try:
                self.pid = _spawn(theirs.fileno(), config_fd)
            except OSError as error:
                self._peer.close()
                raise SystemSetupError(f"cannot start a helper process: {error.strerror}") from error
        self._send(charge)

    def ask(self, request: Any) -> tuple[Reply, int | None]:
        with self._lock:
            self._send(request)
            try:
                body, descriptors = receive(self._peer)
            except Gone as error:
                raise _gone(str(error)) from None
        try:
            reply = msgspec.json.decode(body, type=Reply)
            if len(descriptors) != reply.descriptor:
                raise ValueError("descriptors that nobody speaks of")
        except (msgspec.DecodeError, ValueError) as error:
            close_all(descriptors)
            raise _gone(str(error)) from None
        return reply, descriptors[0] if descriptors else None

    def close(self) -> None:
        """Waits for its end. Idempotent."""
        if self._peer.fileno() >= 0:
            self._peer.close()
            with contextlib.suppress(ChildProcessError):  # killed long ago, and taken for an orphan
                os.waitpid(self.pid, 0)

    def _send(self, message: msgspec.Struct) -> None:
        try:
            send(self._peer, message)
        except Gone as error:
            raise _gone(str(error)) from None


def _spawn(fd: int, config_fd: int) -> int:
    return spawn(python_module("wh.helper.process"), {0: fd, CONFIG_FD: config_fd})


def _gone(why: str) -> SystemSetupError:
    return SystemSetupError(
        f"the daemon's helper process does not answer: {why}",
        code=Code.HELPER_GONE,
        hint="the network goes on without it; start the daemon anew",
    )


class Helper:
    """The verbs, for an event loop. All raise ConfigError or SystemSetupError."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def write_names(self, entries: Iterable[NameEntry]) -> list[str]:
        """Warnings."""
        names = [
            NamedMember(entry.hostname, [str(address) for address in entry.addresses])
            for entry in entries
            if entry.hostname is not None
        ]
        return (await self._ask(WriteNames(names)))[0]

    async def remove_names(self) -> None:
        await self._ask(RemoveNames())

    async def read_network_file(self, len_max: int) -> bytes:
        """At most so many bytes."""
        descriptor = await self._descriptor(OpenNetworkFile())
        with os.fdopen(descriptor, "rb") as file:
            return await asyncio.to_thread(file.read, len_max)

    async def edit(self, edit: FileEdit) -> None:
        """Change the network file; on disk when this returns."""
        await self._ask(edit)

    async def remove_socket(self, which: Literal["wh", "wg"], inode: int) -> None:
        await self._ask(RemoveSocket(which, inode))

    async def open_log(self) -> int:
        """A descriptor of it, wherever it is by now."""
        return await self._descriptor(OpenLog())

    async def start_gateway_worker(self) -> socket.socket:
        """A stream to it, not blocking."""
        worker = socket.socket(fileno=await self._descriptor(StartGatewayWorker()))
        worker.setblocking(False)
        return worker

    async def end_gateway_worker(self) -> None:
        await self._ask(EndGatewayWorker())

    async def find_managers(self) -> list[str]:
        """Programs that manage networks and run here: names of wh.helper.managers.MANAGERS."""
        return (await self._reply(FindManagers()))[0].found

    def close(self) -> None:
        self._channel.close()

    async def _descriptor(self, request: Request) -> int:
        _, descriptor = await self._ask(request)
        if descriptor is None:
            raise _gone("it gave no descriptor")
        return descriptor

    async def _ask(self, request: Request) -> tuple[list[str], int | None]:
        reply, descriptor = await self._reply(request)
        return reply.warnings, descriptor

    async def _reply(self, request: Request) -> tuple[Reply, int | None]:
        reply, descriptor = await asyncio.to_thread(self._channel.ask, request)
        if reply.refusal is not None:
            raise _error(reply.refusal)
        return reply, descriptor


def _error(refusal: Refusal) -> UserError:
    kind = ConfigError if refusal.of_config else SystemSetupError
    return kind(refusal.message, code=refusal.code, hint=refusal.hint, place=refusal.place)
