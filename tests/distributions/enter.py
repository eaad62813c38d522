"""The process that `unshare` starts in namespaces of its own moves into a root: enter.py ROOT COMMAND [WORDS]

What is outside is out of sight then. A chroot would not do: it forbids user namespaces and `ip netns exec`.
In the environment: CACHE, a directory of the outside for packages and for what pip fetches. OWN_NETWORK: this
network namespace is new too. BINFMT: a line of binfmt_misc, for a root of another architecture; it counts in
this user namespace alone (Linux 6.7).
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

_MNT_DETACH = 2  # sys/mount.h
_BINFMT = "proc/sys/fs/binfmt_misc"
_CACHED = {"packages": "var/cache/apt/archives", "pip": "root/.cache/pip"}

_DEVICES = ("full", "net/tun", "null", "random", "tty", "urandom", "zero")
_LINKS = {
    "fd": "/proc/self/fd",
    "ptmx": "pts/ptmx",
    "stdin": "fd/0",
    "stdout": "fd/1",
    "stderr": "fd/2",
}
_OURS = ("CACHE", "BINFMT", "OWN_NETWORK")

_libc = ctypes.CDLL(None, use_errno=True)


def main(root: Path, *command: str) -> None:
    mount("--make-rprivate", "/")
    make_mounts(root)
    if line := os.environ.get("BINFMT"):  # it counts for as long as it is mounted
        mount("-t", "binfmt_misc", "binfmt_misc", root / _BINFMT)
        (root / _BINFMT / "register").write_text(line)
    os.chdir(root)
    # The old root is then mounted over the new one, and goes (pivot_root(2), notes).
    check(_libc.pivot_root(b".", b"."))
    check(_libc.umount2(b".", _MNT_DETACH))
    os.execvpe(command[0], command, inner_environment())  # noqa: S606


def make_mounts(root: Path) -> None:
    mount("--bind", root, root)
    mount("-t", "proc", "proc", root / "proc")
    make_devices(root / "dev")
    if "OWN_NETWORK" in os.environ:
        mount("-t", "sysfs", "sysfs", root / "sys")
    else:
        mount("--rbind", "/sys", root / "sys")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", root / "run")
    for name in ("lock", "netns"):
        (root / "run" / name).mkdir()
    if cache := os.environ.get("CACHE"):
        for name, place in _CACHED.items():
            (root / place).mkdir(parents=True, exist_ok=True)
            mount("--bind", Path(cache) / name, root / place)


def make_devices(place: Path) -> None:
    """What a container has: nodes of the machine, and terminals and shared memory of its own."""
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    for name in _DEVICES:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).touch()
        mount("--bind", Path("/dev") / name, place / name)
    for name, target in _LINKS.items():
        (place / name).symlink_to(target)
    for name in ("pts", "shm"):
        (place / name).mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620", "devpts", place / "pts")
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", place / "shm")


def inner_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OURS}


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "cannot leave the outer root")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
