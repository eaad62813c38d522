"""Starting the daemon: a new process in a session of its own, never a fork of this one.

It gets the network file and the key as open descriptors, and tells on a pipe whether it became usable.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec

from wh.errors import Code, SystemSetupError
from wh.ipc.client import DaemonError
from wh.ipc.paths import LOG_MODE
from wh.ipc.schema import Readiness, Ready
from wh.system.files import open_place
from wh.system.python import NOWHERE, python_module, spawn

READY_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 3.0
POLL_INTERVAL_S = 0.02
READY_LEN_MAX = 1 << 20
LOG_TAIL_LEN = 4096
STDERR = 2


class Launch(NamedTuple):
    """What the daemon is to run with.

    config_path: for later reloads, where there is a file; now it reads config_fd. ephemeral: the key will
    not come again, so no state is worth keeping.
    """

    config_path: str | None
    config_fd: int
    key_fd: int
    interface: str
    listen_port: int | None
    mode: str | None
    hosts: bool
    ephemeral: bool
    isolated: bool = False
    lan: bool = False
    port_mapping: bool = True

    def arguments(self) -> list[str]:
        """argv."""
        options = {
            "--config-path": self.config_path,
            "--config-fd": self.config_fd,
            "--key-fd": self.key_fd,
            "--interface": self.interface,
            "--listen-port": self.listen_port,
            "--mode": self.mode,
        }
        flags = {
            "--no-hosts": not self.hosts,
            "--ephemeral": self.ephemeral,
            "--isolated": self.isolated,
            "--lan": self.lan,
            "--no-port-mapping": not self.port_mapping,
        }
        words = [f"{name}={value}" for name, value in options.items() if value is not None]
        words += [name for name, given in flags.items() if given]
        return python_module("wh.daemon.process", *words)


def run_in_foreground(launch: Launch) -> NoReturn:
    """Become the daemon. It logs to our standard error."""
    _pass_only((launch.config_fd, launch.key_fd))
    arguments = launch.arguments()
    sys.stdout.flush()
    os.execv(arguments[0], arguments)  # noqa: S606


def run_in_background(launch: Launch, log: Path) -> Ready:
    """Start the daemon and wait until its interface is usable.

    Raises DaemonError for what it reports, SystemSetupError where it ends or stays silent; then it is gone.
    """
    ready_fd, child_ready_fd = os.pipe2(os.O_CLOEXEC)
    try:
        pid = _spawn(launch, child_ready_fd, log)
    except PermissionError as error:
        os.close(ready_fd)
        raise SystemSetupError(
            f"no permission to use {error.filename}", code=Code.NOT_PERMITTED, hint="run as root"
        ) from None
    except OSError as error:
        os.close(ready_fd)
        raise _start_error(f"the daemon cannot be started: {error.strerror}: {error.filename}") from None
    finally:
        os.close(child_ready_fd)
    try:
        line = _read_line(ready_fd, time.monotonic() + READY_TIMEOUT_S)
    except BaseException:
        _stop(pid)
        raise
    finally:
        os.close(ready_fd)
    if not line.endswith(b"\n"):
        raise _start_error(f"the daemon {_end_of(pid)} before it was ready{_last_words(log)}", f"see {log}")
    return _judge(line, pid)


def _spawn(launch: Launch, ready_fd: int, log: Path) -> int:
    """The process id. Raises OSError."""
    log_fd = _open_log(log)
    try:
        _pass_only((launch.config_fd, launch.key_fd, ready_fd))
        arguments = [*launch.arguments(), f"--ready-fd={ready_fd}"]
        return spawn(arguments, {0: NOWHERE, 1: log_fd, 2: log_fd})
    finally:
        os.close(log_fd)


def _open_log(log: Path) -> int:
    """Raises OSError."""
    with open_place(log) as place:
        log_fd = place.open(os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, LOG_MODE)
    os.set_blocking(log_fd, True)
    return log_fd


def _pass_only(descriptors: Iterable[int]) -> None:
    """Let a new process inherit these and the standard ones, and nothing that our own parent left open."""
    kept = set(descriptors)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        descriptor = int(name)
        if descriptor > STDERR:
            try:
                os.set_inheritable(descriptor, descriptor in kept)
            except OSError:
                continue  # the descriptor of the listing itself, closed by now


def _read_line(descriptor: int, deadline: float) -> bytes:
    """Up to a newline, or up to end of file. Raises SystemSetupError at the deadline."""
    data = b""
    while not data.endswith(b"\n") and len(data) < READY_LEN_MAX:
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise _start_error(f"the daemon was not ready within {READY_TIMEOUT_S:.0f} s and was stopped")
        chunk = os.read(descriptor, 4096)
        if not chunk:
            break
        data += chunk
    return data


def _judge(line: bytes, pid: int) -> Ready:
    try:
        readiness = msgspec.json.decode(line, type=Readiness)
    except msgspec.DecodeError as error:
        _stop(pid)
        raise _start_error(f"the daemon's word on its start is not understood: {error}") from None
    if readiness.ok is not None:
        return readiness.ok
    _stop(pid)
    if readiness.error is not None:
        raise DaemonError(readiness.error)
    raise _start_error("the daemon said neither that it is ready nor why not")


def _stop(pid: int) -> None:
    """Give the daemon time to remove what it made."""
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(POLL_INTERVAL_S)


def _end_of(pid: int) -> str:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _last_words(log: Path) -> str:
    """The last line of the log, after a colon."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_LEN))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return f": {said[-1]}" if said else ""


def _start_error(message: str, hint: str = "") -> SystemSetupError:
    return SystemSetupError(message, code=Code.DAEMON_START, hint=hint)
