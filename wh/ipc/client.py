"""The command line's end of the local socket.

Plain blocking sockets: importing asyncio would cost more time than the call itself.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import msgspec

from wh.errors import Code, IpcError
from wh.ipc import schema
from wh.ipc.paths import present_interfaces, run_dir, socket_path

DEFAULT_TIMEOUT_S = 30.0
CHUNK_LEN = 64 * 1024

OnProgress = Callable[[msgspec.Raw], None]

_answer_decoder = msgspec.json.Decoder(schema.Answer)


class DaemonError(IpcError):
    """The daemon's own error answer. errors: this one, then the others of the same network file."""

    def __init__(self, failure: schema.Failure) -> None:
        super().__init__(failure.message, code=failure.code, hint=failure.hint, place=failure.place)
        self.errors: tuple[IpcError, ...] = (self, *map(DaemonError, failure.more))


def list_interfaces() -> list[str]:
    """Interfaces whose daemon accepts connections (or refuses only us), sorted."""
    return [interface for interface in present_interfaces() if _is_served(interface)]


def call(
    interface: str,
    verb: schema.Verb[schema.Arguments, schema.Result],
    arguments: schema.Arguments,
    on_progress: OnProgress | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,
    file: int | None = None,
) -> schema.Result:
    """The verb's result. timeout: seconds for the whole call. file: a descriptor, for a verb that takes one.

    Raises DaemonError for an error answer, else IpcError (no daemon, no permission, no answer in time).
    """
    raw = call_raw(interface, verb.name, msgspec.json.encode(arguments), on_progress, timeout, file)
    try:
        return msgspec.json.decode(raw, type=verb.result)
    except msgspec.DecodeError as error:
        raise _broken(interface, f"its answer to {verb.name} is not understood: {error}") from None


def call_raw(
    interface: str,
    verb: str,
    arguments: bytes,
    on_progress: OnProgress | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,
    file: int | None = None,
) -> bytes:
    """As call(), for JSON in and JSON out."""
    request = msgspec.json.encode(schema.Request(verb, msgspec.Raw(arguments))) + b"\n"
    if len(request) > schema.REQUEST_LEN_MAX:
        raise IpcError(f"a request has at most {schema.REQUEST_LEN_MAX} bytes", code=Code.IPC_BAD_REQUEST)
    with _connect(interface, timeout) as connection:
        for line in _exchange(connection, interface, request, time.monotonic() + timeout):
            answer = _decode(interface, line)
            if answer.error is not None:
                raise DaemonError(answer.error)
            if len(answer.ok):
                return bytes(answer.ok)
            if answer.file:
                _pass(connection, interface, file)
            if len(answer.progress) and on_progress is not None:
                on_progress(answer.progress)
    raise _broken(interface, "it closed the connection without an answer")


def _connect(interface: str, timeout: float) -> socket.socket:
    try:
        path = socket_path(interface)
    except ValueError as error:
        raise IpcError(str(error), code=Code.BAD_INTERFACE_NAME, hint=_running_hint()) from None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
    except PermissionError:
        connection.close()
        raise IpcError(
            f"no permission to talk to {interface}",
            code=Code.IPC_DENIED,
            hint="run as root, or join the group wirehub",
        ) from None
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise IpcError(f"no daemon runs on {interface}", code=Code.NO_DAEMON, hint=_running_hint()) from None
    except OSError as error:
        connection.close()
        raise _broken(interface, str(error)) from None
    return connection


def _exchange(connection: socket.socket, interface: str, request: bytes, deadline: float) -> Iterator[bytes]:
    """Send the request; the lines of the answer as they come, up to its end. deadline: time.monotonic()."""
    unfinished = b""
    try:
        with contextlib.suppress(ConnectionError):  # refused before it was read: the answer says why
            connection.sendall(request)
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            connection.settimeout(remaining)
            chunk = connection.recv(CHUNK_LEN)
            if not chunk:
                return
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            yield from lines
    except TimeoutError:
        raise IpcError(f"the daemon on {interface} did not answer in time", code=Code.IPC_TIMEOUT) from None
    except OSError as error:
        raise _broken(interface, str(error)) from None


def _pass(connection: socket.socket, interface: str, file: int | None) -> None:
    try:
        socket.send_fds(connection, [b"\0"], [] if file is None else [file])
    except OSError as error:
        raise _broken(interface, str(error)) from None


def _decode(interface: str, line: bytes) -> schema.Answer:
    try:
        return _answer_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _broken(interface, f"its answer is not understood: {error}") from None


def _broken(interface: str, reason: str) -> IpcError:
    return IpcError(f"talking to the daemon on {interface} failed: {reason}", code=Code.IPC_BAD_REPLY)


def _running_hint() -> str:
    running = list_interfaces()
    return f"running: {', '.join(running)}" if running else "start one with: wh up FILE"


def _is_served(interface: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(f"{run_dir()}/{interface}.sock")
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # it is there, and busy or closed to us
            return True
        return True
