"""The socket on which `wg` configures an interface (wireguard.com/xplatform), served by threads."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path

from wh.config.model import IPNetwork
from wh.engine.events import Key
from wh.errors import Code, SystemSetupError
from wh.net.wireguard.uapi_paths import UAPI_DIRECTORY, uapi_path
from wh.system.files import PUBLIC_DIRECTORY, open_place
from whcore import uapi
from whcore.datapath import Datapath

MAX_CLIENTS = 16
"""At once; `wg` is one for as long as it runs."""

CLIENT_TIMEOUT_S = 30.0
"""A client that says nothing, or does not read its answer, for so long is dropped."""

RETRY_S = 1.0

_TIMEVAL = struct.Struct("@ll")

log = logging.getLogger(__name__)


def open_uapi_socket(interface: str, directory: Path = UAPI_DIRECTORY) -> socket.socket:
    """The listening socket, mode 0600. A stale file is replaced only when nobody answers on it.

    Raises SystemSetupError where another device listens there or the directory cannot be written.
    """
    path = uapi_path(interface, directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with open_place(path, make=PUBLIC_DIRECTORY) as place:
            if _is_served(path):
                raise SystemSetupError(
                    f"another device already serves {path}",
                    code=Code.INTERFACE_TAKEN,
                    hint=f"end it first: ip link delete {interface}",
                )
            place.unlink()
            os.fchmod(listener.fileno(), 0o600)  # Linux gives the file that bind makes the mode of the socket
            listener.bind(str(path))
        listener.listen(MAX_CLIENTS)
    except OSError as error:
        listener.close()
        raise SystemSetupError(
            f"cannot listen on {path}: {error.strerror}", code=Code.NOT_PERMITTED, hint="run as root"
        ) from error
    except SystemSetupError:
        listener.close()
        raise
    return listener


def _is_served(path: Path) -> bool:
    """Whether something may be listening there: only a refused connection says that nothing is."""
    if not path.exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a device whose backlog is full is there too
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno != errno.ECONNREFUSED
        return True


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class FullControl:
    """The policy of a plain WireGuard interface: whoever may open the socket may change everything."""

    def permits_device_change(self, name: str) -> bool:
        return True

    def permits_peer_change(self, public_key: bytes, name: str) -> bool:
        return True

    def permits_allowed_ip(self, address: bytes, prefix_len: int) -> bool:
        return True


class OverlayControl:
    """The policy of a `wh` interface, whose key, port and members are the network file's: the fwmark, the
    keepalive of every peer, and all of the peers that the file does not name."""

    def __init__(self, members: Callable[[], Mapping[Key, Iterable[IPNetwork]]]) -> None:
        """members: by public key the prefixes that the overlay routes to it."""
        self._members = members

    def permits_device_change(self, name: str) -> bool:
        return name == "fwmark"

    def permits_peer_change(self, public_key: bytes, name: str) -> bool:
        return name == "persistent_keepalive_interval" or public_key not in self._members()

    def permits_allowed_ip(self, address: bytes, prefix_len: int) -> bool:
        """Not what would take an address from a member."""
        asked = ip_network((address, prefix_len), strict=False)
        return not any(
            asked.version == held.version and asked.subnet_of(held)  # type: ignore[arg-type]
            for prefixes in self._members().values()
            for held in prefixes
        )


class UapiServer:
    """Answers clients from start() to close(), each in a thread of its own.

    lock is held while a request is carried out: who changes peers elsewhere in the process takes it too.
    """

    def __init__(
        self,
        listener: socket.socket,
        datapath: Datapath,
        device: uapi.Device,
        policy: uapi.Policy,
        *,
        lock: threading.Lock | None = None,
        client_timeout_s: float = CLIENT_TIMEOUT_S,
    ) -> None:
        """Takes ownership of listener."""
        self._listener = listener
        self._datapath = datapath
        self._device = device
        self._policy = policy
        self._lock = lock or threading.Lock()
        self._timeout = _TIMEVAL.pack(int(client_timeout_s), int(client_timeout_s % 1 * 1e6))
        self._clients: dict[socket.socket, threading.Thread] = {}
        self._clients_lock = threading.Lock()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        self._acceptor = threading.Thread(target=self._accept_clients, name="wh-uapi", daemon=True)
        self._path = Path(listener.getsockname())
        self._inode = _inode(self._path)

    def start(self) -> None:
        self._listener.setblocking(False)
        self._acceptor.start()

    def close(self) -> None:
        """Drop all clients, wait for their threads, remove the socket. Call it once, before the data plane's
        close()."""
        self.stop()
        if not self.is_removed():
            self._path.unlink(missing_ok=True)

    def stop(self) -> None:
        """close() that leaves the file, to who may remove it."""
        os.write(self._wake_write, b"\0")
        if self._acceptor.is_alive():
            self._acceptor.join()
        with self._clients_lock:
            threads = list(self._clients.values())
            for client in self._clients:
                with contextlib.suppress(OSError):  # it left meanwhile
                    client.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        self._listener.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    @property
    def inode(self) -> int:
        """Of the file that clients connect to; 0 where it was gone at the start."""
        return self._inode[1] if self._inode else 0

    def is_removed(self) -> bool:
        """Whether the file that clients connect to is gone, or another one in its place."""
        return _inode(self._path) != self._inode

    def _accept_clients(self) -> None:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        while self._wake_read not in {fd for fd, _ in poller.poll()}:
            try:
                self._accept_one(self._listener.accept()[0])
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except (OSError, RuntimeError) as error:  # out of descriptors, memory or threads
                log.warning("cannot serve a client of %s: %s", self._path, error)
                select.select([self._wake_read], [], [], RETRY_S)

    def _accept_one(self, client: socket.socket) -> None:
        """Raises RuntimeError where no thread can be started."""
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            client.setsockopt(socket.SOL_SOCKET, option, self._timeout)
        thread = threading.Thread(target=self._serve, args=(client,), name="wh-uapi-client", daemon=True)
        with self._clients_lock:
            if len(self._clients) >= MAX_CLIENTS:
                log.warning("%s has %d clients already: one is turned away", self._path, MAX_CLIENTS)
                client.close()
                return
            thread.start()
            self._clients[client] = thread

    def _serve(self, client: socket.socket) -> None:
        try:
            uapi.serve(client.fileno(), self._datapath, self._device, self._policy, self._lock)
        except OSError as error:
            log.debug("a client of %s left: %s", self._path, error)
        except Exception:
            log.exception("a client of %s is turned away", self._path)
        finally:
            with self._clients_lock:
                del self._clients[client]
            client.close()
