"""Giving privileges up, for good: another user, few capabilities or none, none by any program.

What was to be gone is looked for in /proc afterwards. A process that still has it must not go on.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from wh.errors import Code, SystemSetupError
from wh.privileges.capabilities import (
    Capability,
    Standing,
    held,
    limit_bounding_set,
    mask_of,
    read_standing,
    set_capabilities,
)
from wh.privileges.kernel import prctl
from wh.privileges.users import User

# linux/prctl.h
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38


def give_up(kept: Collection[Capability], user: User | None = None) -> Standing:
    """Keep those of these capabilities that are there; become the user, without other groups; None: stay who
    we are. With one thread: what is given up is the calling thread's, and that of threads it makes later.

    Raises SystemSetupError where anything of this did not happen.
    """
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        raise _failure("there is another thread already")
    kept = held(kept)
    try:
        limit_bounding_set(kept)
        if user is not None:
            os.setgroups([])
            os.setresgid(user.gid, user.gid, user.gid)
            prctl(_PR_SET_KEEPCAPS, 1)
            os.setresuid(user.uid, user.uid, user.uid)
            prctl(_PR_SET_KEEPCAPS, 0)
        set_capabilities(kept)
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        prctl(_PR_SET_DUMPABLE, 0)  # another user or other capabilities: the kernel has set it anew
    except OSError as error:
        raise _failure(str(error)) from error
    standing = read_standing()
    _verify(standing, kept, user)
    return standing


def _verify(standing: Standing, kept: Collection[Capability], user: User | None) -> None:
    mask = mask_of(kept)
    if (standing.effective, standing.permitted) != (mask, mask):
        raise _failure(f"the capabilities are {standing.permitted:x}, not {mask:x}")
    if standing.inheritable or standing.ambient:
        raise _failure("programs could inherit capabilities")
    if not standing.no_new_privs:
        raise _failure("programs could gain privileges")
    if user is not None and (
        set(standing.uids) != {user.uid} or set(standing.gids) != {user.gid} or standing.groups
    ):
        raise _failure(f"the user is not {user.name}")


def _failure(why: str) -> SystemSetupError:
    return SystemSetupError(
        f"privileges could not be given up: {why}",
        code=Code.PRIVILEGES,
        hint="please report it; nothing was started",
    )


def name_of_user() -> str:
    """Of this process, as status shows it."""
    import pwd

    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
