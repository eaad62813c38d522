"""The helper's process: `python -m wh.helper.process`, started by a daemon of root before that gives up its
privileges. It does what wh.helper.verbs has, for that daemon alone, and ends with it, however that ends.

Descriptor 0 is a stream socket to the daemon, descriptor 3 the network file, open.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import socket
import sys
from pathlib import Path

import msgspec

from wh.config import parser
from wh.errors import Code, ConfigError, UsageError
from wh.helper.frames import Gone, close_all, receive, send
from wh.helper.requests import Charge, Refusal, Reply, Request
from wh.helper.verbs import VERBS, Office, Result
from wh.ipc.paths import log_path
from wh.net.wireguard.uapi_paths import UAPI_DIRECTORY
from wh.privileges.capabilities import Capability
from wh.privileges.drop import give_up
from wh.privileges.sandbox import confine_helper
from wh.system import logs, standard_streams
from wh.system.memory import protect_memory
from whcore.errors import WireHubError

KEPT = (
    Capability.CHOWN,  # a file that is replaced keeps its owner
    Capability.DAC_OVERRIDE,  # a network file may lie in another user's directory
    Capability.FOWNER,
    Capability.SETUID,  # the gateway's worker is nobody
    Capability.SETGID,
    Capability.SETPCAP,
    Capability.KILL,
)
CONFIG_FD = 3

_requests = msgspec.json.Decoder(Request)

log = logging.getLogger("wh.helper")


def main() -> int:
    standard_streams.prepare()
    protect_memory()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # of the daemon's process group: it ends when the daemon has
    with contextlib.suppress(UsageError):  # the daemon tells
        logs.configure(least=logging.WARNING)
    peer = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, CONFIG_FD))
    os.close(0)
    os.open(os.devnull, os.O_RDWR)
    try:
        office = _take_office(peer)
    except ConfigError:
        return 1  # the daemon reads the same file, and tells
    except (Gone, WireHubError, msgspec.DecodeError) as error:
        log.error("the helper cannot begin: %s", error)
        return 1
    try:
        serve(peer, office)
    finally:
        office.worker.end()
    return 0


def _take_office(peer: socket.socket) -> Office:
    """Raises Gone, WireHubError, msgspec.DecodeError."""
    body, descriptors = receive(peer)
    close_all(descriptors)
    charge = msgspec.json.decode(body, type=Charge)
    network = parser.decode(os.pread(CONFIG_FD, parser.MAX_FILE_SIZE + 1, 0), path=charge.config_path)
    os.close(CONFIG_FD)
    give_up(KEPT)
    confine_helper(changed_places(charge))
    return Office(charge, network)


def changed_places(charge: Charge) -> list[Path]:
    """The directories of the files that the verbs replace, make or remove."""
    files = (charge.hosts_path, charge.config_path)
    directories = [Path(path).resolve().parent for path in files if path is not None]
    return [*directories, Path(charge.run_directory), log_path(charge.interface).parent, UAPI_DIRECTORY]


def serve(peer: socket.socket, office: Office) -> None:
    """One request after the other, until the daemon has gone. A message that is none ends it: the daemon is
    not itself then."""
    while _wait(peer, office):
        try:
            body, descriptors = receive(peer)
            close_all(descriptors)
            reply, result = answer(office, body)
            try:
                send(peer, reply, result.descriptor)
            finally:
                if result.descriptor is not None:
                    os.close(result.descriptor)
        except Gone:
            return


def _wait(peer: socket.socket, office: Office) -> bool:
    while not select.select([peer], [], [], office.worker.time_left_s())[0]:
        office.worker.expire()
    return True


def answer(office: Office, body: bytes) -> tuple[Reply, Result]:
    """Whatever body is. Nothing raises out of here: what a verb did not foresee is logged, and refused."""
    try:
        request = _requests.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Reply(Refusal(f"not a request: {error}", Code.IPC_BAD_REQUEST)), Result()
    try:
        result = VERBS[type(request)](office, request)
    except WireHubError as error:
        return Reply(_refusal(error)), Result()
    except Exception:
        log.exception("%s failed", type(request).__name__)
        return Reply(Refusal("internal error", Code.UNKNOWN, "see the daemon's log")), Result()
    return Reply(None, result.warnings, result.descriptor is not None, result.found), result


def _refusal(error: WireHubError) -> Refusal:
    kind = isinstance(error, ConfigError)
    return Refusal(str(error), error.code, error.hint, error.place, of_config=kind)


if __name__ == "__main__":
    sys.exit(main())
