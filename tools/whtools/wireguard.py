"""`wh-wireguard IFNAME`: a plain WireGuard interface, with the calling convention of wireguard-go.

It returns once the interface is served, by a process in the background; with -f (or WG_PROCESS_FOREGROUND=1)
it stays. WG_TUN_FD and WG_UAPI_FD hand over what was made elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import signal
import socket
import sys
from importlib.metadata import version
from pathlib import Path

from wh.errors import Code, SystemSetupError, UsageError, UserError
from wh.net.links.tun import open_tun
from wh.net.links.tun_watch import set_mtu, tun_name
from wh.net.wireguard.device import MTU, WireguardDevice
from wh.net.wireguard.uapi_server import open_uapi_socket
from wh.system import standard_streams
from wh.system.memory import protect_memory
from wh.system.python import NOWHERE, python_module, spawn
from wh.system.signals import handle_unless_ignored

USAGE = """usage: wh-wireguard [-f | --foreground] INTERFACE
       wh-wireguard --version

Makes a WireGuard interface that `wg` and `wg-quick` configure. With
WG_QUICK_USERSPACE_IMPLEMENTATION=wh-wireguard wg-quick uses it by itself.
It ends when the interface is deleted: ip link delete INTERFACE

environment:
  LOG_LEVEL                 silent, error (default) or verbose
  WG_PROCESS_FOREGROUND=1   stay in the foreground, as -f does
  WG_TUN_FD                 descriptor of an open TUN interface to use
  WG_UAPI_FD                descriptor of a listening configuration socket to use
"""

READY_FD = "WH_READY_FD"
"""Where the process in the background says with one byte that it serves: between it and us only."""

READY_TIMEOUT_S = 15.0

LOG_LEVELS = {"silent": logging.CRITICAL + 1, "error": logging.ERROR, "verbose": logging.DEBUG}


def main(argv: list[str] | None = None) -> int:
    if argv is None:
        standard_streams.prepare()
    try:
        code = _main(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except standard_streams.StreamError as error:
        standard_streams.forget_output()
        print(f"wh-wireguard: error {error.code}: {error}", file=sys.stderr)
        return 1


def _main(arguments: list[str]) -> int:
    foreground = os.environ.get("WG_PROCESS_FOREGROUND") == "1"
    if arguments[:1] in (["-f"], ["--foreground"]):
        foreground = True
        arguments = arguments[1:]
    if arguments == ["--version"]:
        print(f"wh-wireguard {version('wirehub')}")
        return 0
    if arguments in (["--help"], ["-h"]):
        print(USAGE, end="")
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(USAGE, end="", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=LOG_LEVELS.get(os.environ.get("LOG_LEVEL", "error"), logging.ERROR),
        format="wh-wireguard: %(levelname)s: %(message)s",
    )
    try:
        return run(arguments[0]) if foreground else start_in_background(arguments[0])
    except UserError as error:
        print(f"wh-wireguard: error {error.code}: {error}", file=sys.stderr)
        if error.hint:
            print(f"  fix: {error.hint}", file=sys.stderr)
        return 1


def open_interface(interface: str) -> tuple[int, socket.socket]:
    """The TUN fd and the configuration listener, handed over by the environment or made here."""
    tun_fd, uapi_fd = _handed_over("WG_TUN_FD"), _handed_over("WG_UAPI_FD")
    if tun_fd is None:
        tun = open_tun(interface)[0]
        set_mtu(interface, MTU)
    else:
        tun = tun_fd
        interface = _name_of(tun) or interface
        os.set_blocking(tun, False)
    try:
        listener = open_uapi_socket(interface) if uapi_fd is None else _listener_of(uapi_fd)
    except BaseException:
        os.close(tun)
        raise
    return tun, listener


def _handed_over(variable: str) -> int | None:
    """The descriptor that a variable names, kept from our own children. Raises UsageError."""
    text = os.environ.get(variable)
    if text is None:
        return None
    try:
        os.set_inheritable(int(text), False)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{variable}={text} is not an open descriptor") from error
    return int(text)


def _name_of(tun: int) -> str | None:
    """None where the interface was deleted meanwhile, which ends us as soon as we serve it."""
    try:
        return tun_name(tun)
    except OSError as error:
        if error.errno == errno.EBADFD:
            return None
        raise UsageError("WG_TUN_FD is not a TUN interface") from error


def _listener_of(fd: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        raise UsageError("WG_UAPI_FD is not a socket") from error
    if listener.family != socket.AF_UNIX or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise UsageError("WG_UAPI_FD is not a listening unix socket")
    return listener


def run(interface: str) -> int:
    protect_memory()
    tun, listener = open_interface(interface)
    device = WireguardDevice(tun, listener)
    _tell_ready(_handed_over(READY_FD))
    for number in (signal.SIGTERM, signal.SIGINT):
        handle_unless_ignored(number, lambda *_: device.stop())
    try:
        device.serve()
    finally:
        device.close()
    return 0


def _tell_ready(fd: int | None) -> None:
    if fd is not None:
        os.write(fd, b"\n")
        os.close(fd)


def start_in_background(interface: str) -> int:
    """Make what can fail here, where the caller sees the error, and hand it to a process of its own. Raises
    SystemSetupError where that does not serve it."""
    tun, listener = open_interface(interface)
    ready, child_ready = os.pipe2(os.O_CLOEXEC)
    for fd in (tun, listener.fileno(), child_ready):
        os.set_inheritable(fd, True)
    environment = os.environ | {
        "WG_PROCESS_FOREGROUND": "1",
        "WG_TUN_FD": str(tun),
        "WG_UAPI_FD": str(listener.fileno()),
        READY_FD: str(child_ready),
    }
    quiet = environment.get("LOG_LEVEL") in (None, "silent")
    files = dict.fromkeys((0, 1, 2) if quiet else (0, 1), NOWHERE)
    try:
        pid = spawn(python_module("whtools.wireguard", interface), files, environment)
    except OSError as error:
        raise SystemSetupError(f"cannot start: {error.strerror}", code=Code.DAEMON_START) from error
    os.close(child_ready)
    if not (select.select([ready], [], [], READY_TIMEOUT_S)[0] and os.read(ready, 1)):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            Path(listener.getsockname()).unlink()
        raise SystemSetupError(
            "the process in the background ended or is stuck before it served the interface",
            code=Code.DAEMON_START,
            hint=f"see why with: wh-wireguard -f {interface}",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
