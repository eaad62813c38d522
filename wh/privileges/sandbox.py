"""What the processes of WireHub may reach once they are set up: as far as the kernel can keep them from the
rest. A kernel without Landlock or seccomp is no error; what is in force is told."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from wh.privileges import landlock, seccomp
from wh.privileges.landlock import CHANGE, READ, RUN, WRITE_DEVICE, Rule

NO_NEW_PRIVILEGES = "no new privileges"
PROGRAMS = ("/usr", "/lib", "/lib64", "/nix/store")
SYSTEM = (*PROGRAMS, "/etc", "/proc", "/sys", "/dev/null", "/dev/random", "/dev/urandom")
"""Read by Python, by the C library (names of hosts, users, time zones), and by ourselves."""

RESOLVERS = ("/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/connman")
"""Where /etc/resolv.conf may lead."""


log = logging.getLogger(__name__)


def confine_daemon(changed: Iterable[Path], *, alone: bool) -> list[str]:
    """A daemon that has all its sockets: it reads the system and its own code, changes what is beneath these
    directories and nothing else, and makes sockets of the Internet and of routing. alone: it has no helper:
    then it may start Python itself, and change modes. Returns what is in force. After drop.give_up()."""
    run = RESOLVERS if os.geteuid() == 0 else ("/run",)  # root could read secrets of others there
    rules = [Rule(place, READ) for place in (*SYSTEM, *run, *code_places())]
    rules.append(Rule("/dev/null", WRITE_DEVICE))
    if alone:
        rules += [Rule(place, RUN) for place in (*PROGRAMS, *code_places())]
    rules += [Rule(place, CHANGE) for place in changed]
    return _in_force(
        lambda: landlock.restrict(rules),
        lambda: seccomp.install(seccomp.daemon_filter(programs=alone, files=alone)),
    )


def confine_helper(changed: Iterable[Path]) -> list[str]:
    """The helper: it may read all that its user may, write beneath these directories, and start Python."""
    rules = [Rule("/", READ), Rule("/dev/null", WRITE_DEVICE)]
    rules += [Rule(place, RUN) for place in (*PROGRAMS, *code_places())]
    rules += [Rule(place, CHANGE) for place in changed]
    return _in_force(
        lambda: landlock.restrict(rules),
        lambda: seccomp.install(seccomp.helper_filter()),
    )


def confine_client(port: int) -> list[str]:
    """A process that talks with one TCP server, at this port, and reaches nothing else."""
    return _in_force(
        lambda: landlock.restrict((), connect_to=(port,)),
        lambda: seccomp.install(seccomp.client_filter()),
    )


def code_places() -> list[str]:
    """Where Python and our modules are loaded from."""
    places = (sys.prefix, sys.base_prefix, *sys.path)
    return [place for place in dict.fromkeys(places) if place.startswith("/") and place != "/"]


def _in_force(*walls: Callable[[], str | None]) -> list[str]:
    """Without one of them the daemon is as safe as its user and capabilities make it."""
    names = [NO_NEW_PRIVILEGES]
    for wall in walls:
        try:
            name = wall()
        except OSError as error:
            log.warning("the kernel refuses a part of the sandbox: %s", error)
            continue
        if name is not None:
            names.append(name)
    return names
