"""A node's private key on its way from a file, or from a search, to the daemon: never as Python bytes."""

from __future__ import annotations

import os
import stat

from wh.config.model import Network
from wh.errors import Code, SystemSetupError
from wh.system.files import open_input
from whcore import keys
from whcore.errors import InvalidKey
from whcore.keys import SecretKey
from whtools.key_search import search
from whtools.outcome import print_warning


def read_key_file(path: str) -> SecretKey:
    """A file, or a pipe such as <(pass show wirehub). Warns where others may read it.

    Raises SystemSetupError where it cannot be read, InvalidKey for what it holds.
    """
    try:
        descriptor = open_input(path)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise SystemSetupError(
            f"cannot read the private key file {path}: {error.strerror}",
            code=Code.KEY_FILE_UNREADABLE,
            hint=f"make one with: umask 077; wh genkey > {path}" if missing else "",
        ) from None
    try:
        _warn_of_exposure(path, os.fstat(descriptor))
        return SecretKey.read_fd(descriptor)
    except InvalidKey as error:
        error.place = path
        raise
    except OSError as error:
        raise SystemSetupError(
            f"cannot read the private key file {path}: {error.strerror}", code=Code.KEY_FILE_UNREADABLE
        ) from None
    finally:
        os.close(descriptor)


def _warn_of_exposure(path: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        print_warning(
            f"other users may read the private key file {path}", Code.KEY_FILE_EXPOSED, f"chmod 600 {path}"
        )


def warn_of_missing_work(secret: SecretKey, network: Network) -> None:
    """A node answers a stranger only if its key has the network's workbits."""
    found = keys.workbit(secret.public_key, network.namespace.encode())
    if found < network.workbit and network.peer(secret.public_key) is None:
        print_warning(
            f"the key has {found} workbits and the network asks for {network.workbit}: "
            "nodes that do not list the key will not answer it",
            hint="make one with: wh genkey FILE",
        )


def ephemeral_key(network: Network) -> SecretKey:
    """A key for this run only, as the network file asks for."""
    return search(network.workbit, network.namespace)


def to_descriptor(secret: SecretKey) -> int:
    """A descriptor of anonymous memory that holds the key as text, at its start. The caller closes it."""
    descriptor = os.memfd_create("wirehub-key", os.MFD_CLOEXEC)
    try:
        secret.write_fd(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
