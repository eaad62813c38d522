"""The daemon's end of the local socket. One request a connection; callers are checked for each verb.

Whatever a caller sends, it gets one error line and the connection closes: nothing raises out of here. An end
of file from the caller means that it left, and cancels its handler.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from io import FileIO
from typing import Any

import msgspec

from wh.errors import Code, IpcError
from wh.ipc import listener, schema
from wh.ipc.credentials import Caller, may_call
from wh.ipc.places import Places
from whcore.errors import WireHubError

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 10.0
FAREWELL_S = 0.25
LINGERING_MAX = 128
"""Connections above which those that are answered are closed at once, whatever their callers still send."""
UNSENT_PROGRESS_MAX = 64 * 1024
"""Bytes waiting for a slow caller above which progress lines are dropped."""

Progress = Callable[[msgspec.Struct], None]
Handler = Callable[[Any, Progress], Awaitable[msgspec.Struct]]
"""async (arguments, progress) -> result, of the types that schema.VERBS gives. May raise WireHubError."""

RemovePath = Callable[[int], Awaitable[None]]

_encoder = msgspec.json.Encoder()
_request_decoder = msgspec.json.Decoder(schema.Request)


class IpcServer:
    """Serves the handlers on a Unix socket. close() cancels what still runs and removes the socket."""

    def __init__(
        self, path: str, handlers: Mapping[str, Handler], remove_path: RemovePath | None = None
    ) -> None:
        """handlers: by verb; a verb of schema.VERBS without one is answered as unknown. remove_path: how the
        socket with this number goes at the end, where this process may not remove it itself."""
        self._path = path
        self._remove_path = remove_path
        self._handlers = dict(handlers)
        self._server: asyncio.Server | None = None
        self._listener: listener.Listener | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._places = Places()

    async def start(self) -> None:
        """Raises SystemSetupError where a live daemon has the socket, or it cannot be made."""
        self._listener = listener.open_listener(self._path)
        self._server = await asyncio.start_unix_server(
            self._accept, sock=self._listener.sock, limit=schema.REQUEST_LEN_MAX
        )

    async def close(self) -> None:
        """Not from inside a handler. An answer whose handler has returned still goes out."""
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = list(self._connections)
        if connections:  # the answer to `down` is among what is still under way
            await asyncio.wait(connections, timeout=FAREWELL_S)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        if self._listener is not None:
            if self._remove_path is None:
                self._listener.remove()
            else:
                self._listener.sock.close()
                await self._remove_path(self._listener.inode)
            self._listener = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served outside of a task")
        self._connections.add(task)
        try:
            caller = Caller.of(writer.get_extra_info("socket"))
            if self._places.take(task, caller):
                await self._converse(caller, reader, writer)
            else:
                await _send(writer, _error(_too_many_callers()))
            if len(self._connections) <= LINGERING_MAX:
                await _await_departure(reader, writer)
        except (OSError, TimeoutError) as error:
            log.debug("a caller left: %s", error)
        finally:
            self._connections.discard(task)
            self._places.leave(task)
            writer.close()

    async def _converse(
        self, caller: Caller, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One request, one answer."""
        file: AbstractContextManager[object] = nullcontext()
        try:
            line = await _read_request(reader)
            if line is None:
                return
            verb, handler, arguments = self._parse(line, caller)
            if schema.VERBS[verb].takes_file:
                file = passed = await _receive_file(writer)
                arguments = msgspec.structs.replace(arguments, descriptor=passed.fileno())
        except IpcError as refusal:
            await _send(writer, _error(refusal))
            return
        with file:
            await self._work(verb, handler, arguments, reader, writer)

    async def _work(
        self,
        verb: str,
        handler: Handler,
        arguments: msgspec.Struct,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Until it is answered, or the caller has left."""
        work = asyncio.ensure_future(_answer(verb, handler, arguments, writer))
        departure = asyncio.ensure_future(_until_departure(reader))
        try:
            await asyncio.wait((work, departure), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await _drain(writer)
        finally:
            for task in (work, departure):
                task.cancel()
            await asyncio.gather(work, departure, return_exceptions=True)

    def _parse(self, line: bytes, caller: Caller) -> tuple[str, Handler, msgspec.Struct]:
        """The order matters: permission is checked before the arguments are looked at."""
        try:
            request = _request_decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_request(f"not a request: {error}") from None
        verb, handler = schema.VERBS.get(request.verb), self._handlers.get(request.verb)
        if verb is None or handler is None:
            raise _bad_request(f"unknown verb {request.verb!r}", f"one of: {', '.join(self._handlers)}")
        if not may_call(caller, verb.access):
            raise _permission_refusal(request.verb, verb.access)
        try:
            arguments = msgspec.json.decode(request.args, type=verb.arguments)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_request(f"bad arguments for {request.verb}: {error}") from None
        return request.verb, handler, arguments


def _bad_request(message: str, hint: str = "") -> IpcError:
    return IpcError(message, code=Code.IPC_BAD_REQUEST, hint=hint)


def _permission_refusal(verb: str, access: schema.Access) -> IpcError:
    hint = "run as root, or join the group wirehub" if access is schema.Access.USE else "run as root"
    return IpcError(f"no permission for {verb}", code=Code.IPC_DENIED, hint=hint)


def _too_many_callers() -> IpcError:
    return IpcError("too many callers at once", code=Code.IPC_BUSY, hint="try again")


def _error(error: WireHubError) -> dict[str, schema.Failure]:
    return {"error": schema.failure_of(error)}


async def _read_request(reader: asyncio.StreamReader) -> bytes | None:
    """One line, or None where the caller left without a word."""
    try:
        line = await asyncio.wait_for(reader.readline(), REQUEST_TIMEOUT_S)
    except ValueError:
        raise _bad_request(f"a request has at most {schema.REQUEST_LEN_MAX} bytes") from None
    except TimeoutError:
        raise _bad_request(f"no request within {REQUEST_TIMEOUT_S:.0f} s") from None
    if line and not line.endswith(b"\n"):
        raise _bad_request("a request ends with a newline")
    return line or None


async def _receive_file(writer: asyncio.StreamWriter) -> FileIO:
    """An open file that the caller passes, with one byte, once it is told that we wait for it. Raises
    IpcError where none comes."""
    loop = asyncio.get_running_loop()
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream would lose the descriptor
    connection = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
    with connection:
        readable = asyncio.Event()
        loop.add_reader(connection, readable.set)
        try:
            _write(writer, {"file": True})
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await readable.wait()
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        except (TimeoutError, OSError):
            descriptors = []
        finally:
            loop.remove_reader(connection)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    if not descriptors:
        raise _bad_request("a file was to come with this request")
    os.set_inheritable(descriptors[0], False)
    return FileIO(descriptors[0], "rb")


async def _answer(
    verb: str, handler: Handler, arguments: msgspec.Struct, writer: asyncio.StreamWriter
) -> None:
    """Run the handler and write its answer.

    Both in one step: the answer to `down` is on its way before anything that the handler set off can run. An
    error of ours is logged in full and told in one line.
    """

    def progress(step: msgspec.Struct) -> None:
        if writer.transport.get_write_buffer_size() < UNSENT_PROGRESS_MAX and not writer.is_closing():
            _write(writer, {"progress": step})

    try:
        answer: Mapping[str, msgspec.Struct] = {"ok": await handler(arguments, progress)}
    except WireHubError as error:
        answer = _error(error)
    except Exception:
        log.exception("the handler of %s failed", verb)
        answer = _error(IpcError(f"internal error in {verb}", code=Code.UNKNOWN, hint="see the daemon's log"))
    _write(writer, answer)


async def _await_departure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """For a moment: to close with something unread is a reset, which may be noticed before the answer."""
    writer.write_eof()
    async with asyncio.timeout(FAREWELL_S):
        await _until_departure(reader)


async def _until_departure(reader: asyncio.StreamReader) -> None:
    """Returns at the caller's end of file. What it sends after its request is dropped."""
    while await reader.read(4096):
        pass


def _write(writer: asyncio.StreamWriter, answer: Mapping[str, object]) -> None:
    writer.write(_encoder.encode(answer) + b"\n")


async def _send(writer: asyncio.StreamWriter, answer: Mapping[str, msgspec.Struct]) -> None:
    _write(writer, answer)
    await _drain(writer)


async def _drain(writer: asyncio.StreamWriter) -> None:
    await asyncio.wait_for(writer.drain(), ANSWER_TIMEOUT_S)
