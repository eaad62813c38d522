"""What could come next on a command line of `wh`: `wh _complete WORDS... UNFINISHED`, a candidate a line.

The shells' scripts (whtools.commands.completion) call it; the line FILES asks them to add the names of files.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from whtools import grammar
from whtools.application import COMMANDS, application, arguments_of, options_of, words_of

FILES = ":files"


def main(words: list[str]) -> int:
    *before, unfinished = words or [""]
    print("\n".join(candidates(before, unfinished)))
    return 0


def candidates(before: list[str], unfinished: str) -> list[str]:
    """before: the words after `wh`, without the unfinished one."""
    if not before:
        return [name for name in COMMANDS if name.startswith(unfinished)]
    context = click.Context(application, info_name="wh")
    command = application.get_command(context, before[0])
    if command is None:
        return []
    return _of_command(click.Context(command, context, info_name=before[0]), before[1:], unfinished)


def _of_command(context: click.Context, before: list[str], unfinished: str) -> list[str]:
    command = context.command
    try:
        parsed = grammar.parse(before, words_of(command))
    except grammar.MissingValueError as error:
        option = options_of(command)[error.option]
        return _texts(option.shell_complete(context, unfinished))
    except grammar.GrammarError:
        return []
    arguments = arguments_of(command)
    position = len(parsed.positional)
    context.params = {
        str(argument.name): word for argument, word in zip(arguments, parsed.positional, strict=False)
    }
    found = (
        _texts(arguments[position].shell_complete(context, unfinished)) if position < len(arguments) else []
    )
    return found + _option_names(command, parsed, unfinished)


def _option_names(command: click.Command, parsed: grammar.Parsed, unfinished: str) -> list[str]:
    """Bare where the grammar takes them so, with hyphens once the user has begun one."""
    names = [name for name in options_of(command) if name not in parsed.options]
    if unfinished.startswith("-"):
        names = [f"--{name}" for name in names]
    elif len(parsed.positional) < words_of(command).required:
        return []
    return [name for name in names if name.startswith(unfinished)]


def _texts(items: list[CompletionItem]) -> list[str]:
    return [FILES if item.type in ("file", "dir") else item.value for item in items]
