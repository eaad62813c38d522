"""`wh version`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import click

from whtools.application import command


@command("version")
def version() -> None:
    """Print the version."""
    try:
        click.echo(f"wirehub {installed_version('wirehub')}")
    except PackageNotFoundError:
        click.echo("wirehub, not installed: run from its sources")
