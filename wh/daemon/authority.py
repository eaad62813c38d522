"""The privileges of the daemon's process: what it begins with, what it keeps, and who does the rest.

A daemon of root starts its helper first (wh.helper), takes what it needs (sockets, the TUN), and becomes the
user `wirehub`, where there is one, with CAP_NET_ADMIN for its interface or nothing. A daemon of another user
has no helper: what that user may not do is not done.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import resource
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

import wh
from wh.config.model import Network
from wh.daemon.persistence.state import make_state_directory, make_state_passable
from wh.helper.client import Helper, HelperProcess, OwnHands
from wh.helper.process import changed_places
from wh.helper.requests import Charge
from wh.helper.verbs import Office
from wh.ipc.schema import Privileges
from wh.net.wireguard.uapi_paths import UAPI_DIRECTORY
from wh.privileges.capabilities import Capability, held, names_of
from wh.privileges.drop import give_up, name_of_user
from wh.privileges.sandbox import confine_daemon
from wh.privileges.users import DAEMON_USER, User, acting_as, find_user, why_not
from wh.system.files import PUBLIC_DIRECTORY, open_place

LOCKED_MEMORY = 64 << 20
"""Bytes of keys that the data plane may lock; it needs 8 MiB."""

LATE_MODULES = ("importlib.metadata", "encodings.idna")
"""What is imported late, and then perhaps by a user who may no longer read where it lies; of root's daemon
the user is one who may (_new_user)."""

log = logging.getLogger(__name__)


class Authority:
    """Made before threads and secrets are; prepare(), acting() and confine() once, in this order and with
    one thread; close() at the end."""

    def __init__(self, charge: Charge, config_fd: int, *, isolated: bool = False) -> None:
        """isolated: the interface is in a private namespace. Raises SystemSetupError."""
        self._charge = charge
        self._isolated = isolated
        self._process: HelperProcess | None = None
        if os.geteuid() == 0:
            _make_places(charge)
            self._process = HelperProcess(charge, config_fd)
        self._helper = None if self._process is None else Helper(self._process)
        self._user: User | None = None
        self._why_root = ""
        self._state: Path | None = None

    def helper_for(self, network: Network) -> Helper:
        """network: that of the start."""
        if self._helper is None:
            self._helper = own_hands(self._charge, network)
        return self._helper

    def prepare(self, key_text: str | None) -> None:
        """Choose the user to become. key_text: whose state is kept; None: none is."""
        if self._process is not None:
            state = None if key_text is None else make_state_passable()
            self._user, self._why_root = _new_user(state, isolated=self._isolated)
        if key_text is not None:
            uid, gid = (os.geteuid(), os.getegid()) if self._user is None else self._user[1:]
            self._state = make_state_directory(key_text, uid, gid)

    def acting(self) -> AbstractContextManager[None]:
        """Touch files as that user."""
        return acting_as(self._user)

    def confine(self, *, has_interface: bool) -> Privileges:
        """Give up what a set-up daemon does not need. Raises SystemSetupError where something that was to go
        is still there."""
        _let_keys_be_locked()
        changed = [] if self._state is None else [self._state]
        if self._process is None:
            changed += changed_places(self._charge)
            for module in LATE_MODULES:
                importlib.import_module(module)
        standing = give_up((Capability.NET_ADMIN,) if has_interface else (), self._user)
        sandbox = confine_daemon(changed, alone=self._process is None)
        kept = names_of(standing.permitted)
        user = name_of_user()
        log.info("runs as %s, with %s", user, " ".join(kept) or "no capability")
        helper = None if self._process is None else self._process.pid
        return Privileges(user, kept, sandbox, self._why_root, helper)

    def close(self) -> None:
        if self._helper is not None:
            self._helper.close()


def own_hands(charge: Charge, network: Network) -> Helper:
    """For a process that does all of it itself, as its user may."""
    return Helper(OwnHands(Office(charge, network)))


def _make_places(charge: Charge) -> None:
    """Where sockets are: Landlock's rules are for directories that are there when the helper begins."""
    for directory in (Path(charge.run_directory), UAPI_DIRECTORY):
        with contextlib.suppress(OSError), open_place(directory / "any", make=PUBLIC_DIRECTORY):
            pass  # what is wrong with it is said by who needs it


def _new_user(state: Path | None, *, isolated: bool) -> tuple[User | None, str]:
    """None, and why. state: where the directory of its state is. A private namespace of root's without
    NET_ADMIN, as in a container, is in a user namespace that only root has power over."""
    user = find_user()
    if user is None:
        return None, f"this system has no user {DAEMON_USER}"
    if isolated and not held((Capability.NET_ADMIN,)):
        return None, "the namespace of the interface is root's"
    code = (Path(str(each.__file__)).parent for each in (os, wh, msgspec))
    needed = [(place, os.R_OK) for place in code] + ([] if state is None else [(state, os.X_OK)])
    why = why_not(user, needed)
    return (user, "") if why is None else (None, why)


def _let_keys_be_locked() -> None:
    """Root locks as much as it likes; another user up to a limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    for limit in (LOCKED_MEMORY, hard):
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, max(limit, hard) if hard >= 0 else hard))
        except (OSError, ValueError):
            continue
        return
