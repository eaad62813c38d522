"""Our names in the hosts file (hosts(5)): one marked block an interface.

Every line of a block carries the interface's mark, so taking a block out does not rely on its begin and
end: lines that the user puts inside stay, and half a block harms nothing. A last line without line end
stays the last line: blocks go before it.

These functions block (a lock, fsync): an event loop runs them in a thread.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from wh.config.model import HOSTNAME, IPAddress
from wh.errors import Code, SystemSetupError
from wh.naming.table import NameEntry
from wh.system.file_update import recover, replace_or_rewrite, update_file
from wh.system.files import PUBLIC_DIRECTORY, locked, open_place

HOSTS_PATH = Path("/etc/hosts")
RUN_DIRECTORY = Path("/run/wirehub")
MAX_HOSTS_SIZE = 64 << 20  # bytes; lists that block advertisements reach some MB

_INTERFACE = re.compile(r"[^\s/#]{1,15}")
_OUR_LINE = re.compile(
    rb"(?:# wirehub ([^\s/#]{1,15}) (?:begin|end)"
    rb"|[0-9A-Fa-f.:]+\t[A-Za-z0-9_-]+\t# wirehub ([^\s/#]{1,15}))[ \t\r\n]*"
)


class HostsConflict(NamedTuple):
    """A name that was left out, since a line of the file gives it an address that is not ours."""

    hostname: str
    line: int  # from 1, our own block not counted
    address: str


def write(
    path: Path, interface: str, entries: Iterable[NameEntry], *, run_directory: Path = RUN_DIRECTORY
) -> tuple[HostsConflict, ...]:
    """Make the interface's block name exactly the entries that have a host name.

    Names to which other lines of the file, also another interface's, give other addresses are left out and
    returned: the file's own words win. Raises SystemSetupError; the file is unchanged then.
    """
    wanted = tuple(entries)
    conflicts: tuple[HostsConflict, ...] = ()

    def edit(content: bytes) -> bytes:
        nonlocal conflicts
        edited, conflicts = _edited(content, interface, wanted)
        return edited

    _update(path, edit, run_directory)
    return conflicts


def holds(content: bytes, interface: str, entries: Iterable[NameEntry]) -> bool:
    """Whether a hosts file is as write() would leave it."""
    return _edited(content, interface, entries)[0] == content


def _edited(
    content: bytes, interface: str, entries: Iterable[NameEntry]
) -> tuple[bytes, tuple[HostsConflict, ...]]:
    named = [_checked(entry) for entry in entries if entry.hostname is not None]
    others = _without_block(content, interface)
    conflicts = _conflicts(others, named)
    left_out = {conflict.hostname for conflict in conflicts}
    written = [entry for entry in named if entry.hostname not in left_out]
    return _with_block(others, _mark_of(interface), written), conflicts


def remove(path: Path, interface: str, *, run_directory: Path = RUN_DIRECTORY) -> None:
    """Take the interface's block out; that there is none is no error. Raises SystemSetupError."""
    _mark_of(interface)
    _update(path, lambda content: _without_block(content, interface), run_directory)


def interfaces(path: Path) -> frozenset[str]:
    """The interfaces that have lines in the file; those of daemons that crashed are among them."""
    try:
        with open_place(path) as place, os.fdopen(place.open_file(os.O_RDONLY), "rb") as file:
            lines = file.read(MAX_HOSTS_SIZE).splitlines()
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise _hosts_error(path, error) from error
    return frozenset(owner.decode(errors="replace") for owner in map(_owner_of, lines) if owner)


def _update(path: Path, edit: Callable[[bytes], bytes], run_directory: Path) -> None:
    with ExitStack() as held:
        try:
            lock = held.enter_context(open_place(run_directory / "hosts.lock", make=PUBLIC_DIRECTORY))
            held.enter_context(locked(lock))
        except OSError as error:
            raise SystemSetupError(
                f"cannot use {run_directory}: {error.strerror}", code=Code.RUN_DIRECTORY, hint="run as root"
            ) from error
        try:
            place = held.enter_context(open_place(path))
            recover(place)
            update_file(place, edit, max_size=MAX_HOSTS_SIZE, write=replace_or_rewrite)
        except OSError as error:
            raise _hosts_error(path, error) from error


def _hosts_error(path: Path, error: OSError) -> SystemSetupError:
    return SystemSetupError(
        f"cannot change {path}: {error.strerror}",
        code=Code.HOSTS_FILE,
        hint="the network works without it; --no-hosts leaves the file alone",
    )


# The text, as bytes: nothing is known of its encoding


def _mark_of(interface: str) -> str:
    if _INTERFACE.fullmatch(interface) is None:
        raise ValueError(f"{interface!r} is not an interface name")
    return f"# wirehub {interface}"


def _checked(entry: NameEntry) -> NameEntry:
    if entry.hostname is None or HOSTNAME.fullmatch(entry.hostname) is None:
        raise ValueError(f"{entry.hostname!r} is not a host name")
    return entry


def _owner_of(line: bytes) -> bytes | None:
    """The interface whose block a line is part of, or None for a line that is not ours."""
    match = _OUR_LINE.fullmatch(line)
    return (match[1] or match[2]) if match else None


def _without_block(content: bytes, interface: str) -> bytes:
    owner = interface.encode()
    return b"".join(line for line in content.splitlines(keepends=True) if _owner_of(line) != owner)


def _with_block(others: bytes, mark: str, entries: list[NameEntry]) -> bytes:
    lines = [f"{address}\t{entry.hostname}\t{mark}\n" for entry in entries for address in entry.addresses]
    if not lines:
        return others
    block = "".join([f"{mark} begin\n", *lines, f"{mark} end\n"]).encode()
    last_line_at = others.rfind(b"\n") + 1
    return others[:last_line_at] + block + others[last_line_at:]


def _conflicts(others: bytes, entries: list[NameEntry]) -> tuple[HostsConflict, ...]:
    """The first line against each entry, in the order of the file."""
    wanted = {entry.hostname.lower(): entry for entry in entries if entry.hostname}
    conflicts: dict[str, HostsConflict] = {}
    for number, line in enumerate(others.splitlines(), 1):
        address, *names = line.partition(b"#")[0].decode(errors="replace").split() or [""]
        for name in names:
            entry = wanted.get(name.lower())
            if entry and entry.hostname and _parse_ip(address) not in entry.addresses:
                conflicts.setdefault(entry.hostname, HostsConflict(entry.hostname, number, address))
    return tuple(conflicts.values())


def _parse_ip(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
