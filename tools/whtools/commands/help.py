"""`wh help`."""

from __future__ import annotations

import click

from wh.errors import Code
from whtools.application import COMMANDS, command
from whtools.parameters import OneOf

ERRORS = "errors"


@command("help")
@click.argument("topic", required=False, type=OneOf(*COMMANDS, ERRORS), metavar="[COMMAND | errors]")
@click.pass_context
def help(context: click.Context, topic: str | None) -> None:
    """List the commands, explain one, or list the error codes."""
    application = context.find_root().command
    if not isinstance(application, click.Group):
        raise TypeError("help is called outside of wh")
    if topic == ERRORS:
        click.echo("\n".join(f"{code.value}  {code.meaning}" for code in Code))
    elif topic is None:
        click.echo(application.get_help(context.find_root()))
    else:
        _, explained, _ = application.resolve_command(context, [topic])
        if explained is not None:
            click.echo(explained.get_help(click.Context(explained, context.find_root(), info_name=topic)))
