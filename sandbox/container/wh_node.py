#!/usr/bin/env -S --block-signal=TERM --block-signal=INT --block-signal=HUP /usr/bin/python3 -IS
"""The first process of a container: `wh-node [WORDS OF wh up]` finds key and network file, says what this
container may do, and becomes `wh up ... foreground`. `wh-node key` makes the key if need be, and prints its
public half.

A first process does not die of a signal that it has no handler for: the signal is lost. So they are blocked
(see the first line) until the daemon takes them. The key comes from a file, never from the environment.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

CONFIG = Path("/etc/wirehub/config")
SECRET = Path("/run/secrets/wirehub_key")
STATE = Path(os.environ.get("WH_STATEDIR") or "/var/lib/wirehub/node")
KEY_ON_VOLUME = "key"
INTERFACE = "wh0"
TUN = "/dev/net/tun"
CAP_NET_ADMIN = 12  # linux/capability.h
STATE_MODE = 0o711
"""Root's daemon becomes another user, who has a directory of its own in there."""

OTHERS = stat.S_IRWXG | stat.S_IRWXO
OVERLAY_LINE = re.compile(rb"^[ \t]*(subnet|trust|router|alias)\b", re.MULTILINE)


class Refused(Exception):
    """What is wrong, and what to do."""

    def __init__(self, text: str, fix: str) -> None:
        super().__init__(text)
        self.fix = fix


def main(words: list[str]) -> int:
    os.dup2(1, 2)  # the log of a container is its standard output
    try:
        key, source = find_key()
        public_key = public_half(key)
        if words == ["key"]:
            print(public_key, flush=True)
            return 0
        say(f"key {public_key}, {source}")
        if not CONFIG.exists():
            raise Refused(
                f"there is no network file {CONFIG}",
                f"mount it: --volume ./config:{CONFIG}:ro; this node's line there: trust NAME {public_key}",
            )
        become_daemon(key, words)
    except Refused as error:
        print(f"wh-node: error: {error}\n  fix: {error.fix}", flush=True)
        return 1


def say(text: str) -> None:
    print(f"wh-node: {text}", flush=True)


# The key.


def find_key() -> tuple[Path, str]:
    """A file that only this user or root can read, and where it comes from. Raises Refused."""
    if os.path.lexists(SECRET):
        check_key(SECRET, {0, os.geteuid()}, "--secret wirehub_key,mode=0400,uid=UID")
        return SECRET, f"from the secret {SECRET}"
    key = STATE / KEY_ON_VOLUME
    made = False
    try:
        if not STATE.exists():
            STATE.mkdir(parents=True, exist_ok=True)
            STATE.chmod(STATE_MODE)
        if not os.path.lexists(key):
            made = make_key(key)
    except OSError as error:
        raise Refused(
            f"cannot keep a key in {STATE} as user {os.geteuid()}: {error.strerror}",
            f"mount a volume on {STATE.parent} that this user can write",
        ) from None
    check_key(key, {os.geteuid()}, "chown and chmod 600 it, or take a fresh volume")
    return key, f"{'made now' if made else 'kept'} in {key}"


def make_key(key: Path) -> bool:
    """All of it or nothing; False where another container was faster. Raises OSError."""
    fresh = key.with_name(f".{key.name}.{os.urandom(8).hex()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        wanted = [str(CONFIG)] if CONFIG.exists() else []
        maker = subprocess.run(["wh", "genkey", *wanted], stdout=descriptor, check=False)
        if maker.returncode != 0:
            raise SystemExit(maker.returncode)  # it has said why, such as what is wrong with the network file
        os.fsync(descriptor)
        os.link(fresh, key)
    except FileExistsError:
        return False
    finally:
        os.close(descriptor)
        fresh.unlink()
    directory = os.open(key.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)
    return True


def check_key(path: Path, owners: set[int], fix: str) -> None:
    """Raises Refused for a key that others can read, or could have put there."""
    try:
        status = path.stat() if path == SECRET else path.lstat()
    except OSError as error:
        raise Refused(f"cannot read the key {path}: {error.strerror}", fix) from None
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"the key {path} is not a regular file", fix)
    if status.st_uid not in owners:
        raise Refused(f"the key {path} belongs to user {status.st_uid}, and this is user {os.geteuid()}", fix)
    if status.st_mode & OTHERS:
        raise Refused(f"other users can read the key {path} (mode {stat.S_IMODE(status.st_mode):04o})", fix)
    if not os.access(path, os.R_OK):
        raise Refused(f"user {os.geteuid()} cannot read the key {path}", fix)


def public_half(key: Path) -> str:
    """Raises Refused."""
    with key.open("rb") as file:
        answer = subprocess.run(["wh", "pubkey"], stdin=file, stdout=subprocess.PIPE, text=True, check=False)
    if answer.returncode != 0:
        raise Refused(f"{key} holds no private key", "wh genkey makes one")
    return answer.stdout.strip()


# What the container may do.


def become_daemon(key: Path, words: list[str]) -> NoReturn:
    command = ["wh", "up", str(CONFIG), "private-key", str(key), *words]
    if "interface" not in words and "--interface" not in words:
        command += ["interface", INTERFACE]
    if "isolated" not in words and "--isolated" not in words and not describe_privileges():
        command.append("isolated")
    os.execvp(command[0], [*command, "foreground"])


def describe_privileges() -> bool:
    """Whether the interface can be the container's own."""
    if not has_overlay():
        say("a public node: no privilege is needed")
        return True
    admin, tun = has_net_admin(), tun_trouble()
    held = f"NET_ADMIN: {'yes' if admin else 'no'}, {TUN}: {tun or 'yes'}"
    if admin and not tun:
        say(f"{held}; the interface is the container's own")
        return True
    missing = [*([] if admin else ["--cap-add NET_ADMIN"]), *([f"--device {TUN}"] if tun else [])]
    say(
        f"{held}; the interface is in a namespace of its own, and wh run and wh socks lead there; "
        f"for one of the container's own: {' '.join(missing)}"
    )
    return False


def has_overlay() -> bool:
    """As wh up will see it; a file that cannot be read is its affair."""
    try:
        return OVERLAY_LINE.search(CONFIG.read_bytes()) is not None
    except OSError:
        return True


def has_net_admin() -> bool:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    effective = int(re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    return bool(effective >> CAP_NET_ADMIN & 1)


def tun_trouble() -> str:
    """Why the TUN device cannot be opened; empty where it can."""
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"no ({error.strerror})"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
