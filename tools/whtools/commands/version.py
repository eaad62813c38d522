"""`wh version`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

import click

from whtools.application import command
from whtools.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wh.net.abilities import Abilities


@command("version")
@click.option(
    "--verbose", is_flag=True, help="Print what this machine gives, what it lacks, and what that costs."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(verbose: bool, as_json: bool) -> None:
    """Print the version.

    With verbose also: what packets are encrypted by, the offloads of interface and UDP, kernel and Python as
    they are here; of what is missing the cost, and how it is had. It is tried out, in a network namespace of
    its own.
    """
    installed = _installed_version()
    found = _abilities() if verbose else None
    if as_json:
        _print_json(installed, found)
        return
    click.echo(f"wirehub {installed}" if installed else "wirehub, not installed: run from its sources")
    if found is not None:
        click.echo("\n".join(map(printable, lines(found))))


def lines(found: Abilities) -> Iterator[str]:
    checked = "" if found.engine == found.libsodium else f", checked against {found.libsodium}"
    yield f"  encryption: {found.engine}{checked}"
    yield f"  interface: {_list(found.tun_offloads)}"
    yield f"  UDP: {_list(found.udp_offloads)}"
    yield f"  kernel: {found.kernel}, {found.machine}"
    confining = [f"Landlock {found.landlock}"] if found.landlock else []
    yield f"  daemons confined by: {_list(confining + ['seccomp'] if found.seccomp else confining)}"
    yield f"  Python: {found.python}"
    if not found.missing:
        yield "  nothing is missing"
    for missing in found.missing:
        yield f"  missing: {missing.what}: {missing.cost}"
        yield f"    fix: {missing.fix}"


def _list(names: list[str] | None) -> str:
    return "not tried" if names is None else ", ".join(names) or "none"


def _installed_version() -> str | None:
    try:
        return installed_version("wirehub")
    except PackageNotFoundError:
        return None


def _abilities() -> Abilities:
    from wh.net.abilities import abilities

    return abilities()


def _print_json(installed: str | None, found: Abilities | None) -> None:
    import msgspec

    shown: dict[str, Any] = {"version": installed}
    if found is not None:
        shown |= msgspec.to_builtins(found)
    click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
