"""The tree of `wh`'s commands, on click. A command's module is imported when it is called or explained."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import click

from wh.system.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from whcore.errors import WireHubError
from whtools import grammar
from whtools.outcome import EXIT_INTERRUPTED, print_error, report
from whtools.terminal import printable

USAGE_CODE = "WH130"
WORD_SHOWN = 60


SYNONYMS = {"status": "show"}
"""What else a command is called, by who knows other programs."""


class Entry(NamedTuple):
    """One subcommand: a function of its name in a module of whtools.commands."""

    section: str
    module: str
    summary: str


COMMANDS = {
    "genkey": Entry("Setup", "genkey", "Make a private key"),
    "pubkey": Entry("Setup", "filters", "Read a private key, print its public key"),
    "workbit": Entry("Setup", "filters", "Read a public key, print its workbits"),
    "up": Entry("Setup", "up", "Join a network: make an interface and start its daemon"),
    "down": Entry("Setup", "down", "Leave a network: stop the daemon of an interface"),
    "reload": Entry("Setup", "reload", "Read the network file again"),
    "invite": Entry("Members", "invite", "Invite a member yet to come"),
    "join": Entry("Members", "join", "Join a network by an invitation"),
    "revoke": Entry("Members", "revoke", "Take a member or an invitation out of the network"),
    "authenticate": Entry("Members", "authenticate", "Claim an alias with its private key"),
    "show": Entry("Status", "show", "Show interfaces, peers and paths (also: bare wh)"),
    "netcheck": Entry("Status", "netcheck", "Show what kind of network this is: NAT, mapped ports, relays"),
    "health": Entry("Status", "health", "Say whether a node is healthy, or why not"),
    "inspect": Entry("Status", "inspect", "Print everything a daemon knows, as JSON"),
    "lookup": Entry("Network", "lookup", "Look a peer up in the network"),
    "ping": Entry("Network", "ping", "Ask a peer for an answer, and time it"),
    "resolve": Entry("Network", "resolve", "Print a name's address, or an address's name"),
    "run": Entry("Network", "run", "Run a command inside an overlay"),
    "socks": Entry("Network", "socks", "Let programs into an overlay by a proxy"),
    "forget": Entry("Network", "forget", "Forget what is known about a peer's whereabouts"),
    "orchid": Entry("Advanced", "orchid", "Read a public key, print its ORCHID IPv6 address"),
    "bid": Entry("Advanced", "filters", "Print the bucket index between two keys"),
    "ipc": Entry("Advanced", "ipc", "Send one request to a daemon, as JSON"),
    "completion": Entry("Advanced", "completion", "Print a completion script for bash, zsh or fish"),
    "help": Entry("Advanced", "help", "Explain a command, or the error codes"),
    "version": Entry("Advanced", "version", "Print the version"),
}


RESERVED = {
    "auth": "is called wh authenticate",
    "p2p": "comes with a later release; direct paths are made without being asked for",
    "check-wg": "is not needed any more: WireHub carries its own WireGuard",
}
"""Subcommands of the original that do nothing here."""


def words_of(command: click.Command) -> grammar.Words:
    """What the grammar must know about a command."""
    arguments = arguments_of(command)
    required = sum(argument.required for argument in arguments)
    options = {name: not option.is_flag for name, option in options_of(command).items()}
    repeated = any(argument.nargs < 0 for argument in arguments)
    return grammar.Words(options, required, sys.maxsize if repeated else len(arguments) - required)


def arguments_of(command: click.Command) -> list[click.Argument]:
    """The positional words, in their order."""
    return [parameter for parameter in command.params if isinstance(parameter, click.Argument)]


def options_of(command: click.Command) -> dict[str, click.Option]:
    """By name, without hyphens."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {option.opts[0].removeprefix("--"): option for option in options}


def is_text(word: str) -> bool:
    """Whether it came as UTF-8: other bytes of an argument are in it as surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


class KeywordCommand(click.Command):
    """A command with the keyword grammar."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            parsed = grammar.parse(args, words_of(self))
        except grammar.GrammarError as error:
            raise click.UsageError(_with_suggestion(str(error), error.suggestion), ctx) from None
        rest = super().parse_args(ctx, parsed.for_click())
        self._require_text(ctx)
        return rest

    def _require_text(self, ctx: click.Context) -> None:
        """What is no name of a file, nor another program's, is text: it may be printed and sent."""
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            if isinstance(value, str) and not isinstance(parameter.type, click.Path) and not is_text(value):
                raise click.UsageError(f"{printable(value[:WORD_SHOWN])} is not UTF-8 text", ctx)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [_usage_piece(parameter, ctx) for parameter in self.params]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        if any(isinstance(parameter, click.Option) for parameter in self.params):
            formatter.write_paragraph()
            formatter.write_text("Options may also be written without hyphens, after the other words.")


def command(name: str) -> Callable[[Callable[..., int | None]], click.Command]:
    """Decorator: a function becomes the subcommand of that name. It returns the exit code, or None for 0."""
    return click.command(name, cls=KeywordCommand, short_help=COMMANDS[name].summary)


class Application(click.Group):
    """`wh` itself."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"whtools.commands.{COMMANDS[cmd_name].module}")
        found: click.Command = getattr(module, cmd_name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, *rest = args
        if name in RESERVED:
            raise click.UsageError(f"wh {name} {RESERVED[name]}", ctx)
        found = self.get_command(ctx, name)
        if found is None:
            suggestion = grammar.nearest(name, [*COMMANDS, *RESERVED])
            raise click.UsageError(_with_suggestion(f"unknown command {name!r}", suggestion), ctx)
        return name, found, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name, entry.summary) for name, entry in COMMANDS.items() if entry.section == section]
                )


application = Application(
    "wh",
    help="Decentralized, encrypted, peer-to-peer overlay networks from one text file.",
    epilog="wh help COMMAND explains a command, wh help errors the error codes.",
    subcommand_metavar="COMMAND [WORDS]",
    options_metavar="",
    context_settings={"help_option_names": ["--help", "-h"]},
)


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code. Expected errors are printed, others raised."""
    if not arguments:
        arguments = ["show"]
    elif arguments in (["--version"], ["-V"]):
        arguments = ["version"]
    arguments = [SYNONYMS.get(arguments[0], arguments[0]), *arguments[1:]]
    try:
        with application.make_context("wh", arguments) as context:
            code = application.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as error:
        print_error(_in_our_style(error.format_message()), USAGE_CODE, _usage_hint(error.ctx))
        return EXIT_USAGE
    except click.ClickException as error:
        print_error(error.format_message())
        return EXIT_FAILED
    except click.Abort:
        return EXIT_INTERRUPTED
    except WireHubError as error:
        return report(error)
    return code if isinstance(code, int) else EXIT_OK


def _with_suggestion(message: str, suggestion: str | None) -> str:
    return f"{message}; did you mean {suggestion}?" if suggestion else message


def _in_our_style(message: str) -> str:
    """click's own messages are sentences."""
    return message[:1].lower() + message[1:].removesuffix(".")


def _usage_hint(context: click.Context | None) -> str:
    if context is None or not isinstance(context.command, KeywordCommand):
        return "wh help lists the commands"
    return f"usage: {context.command_path} {' '.join(context.command.collect_usage_pieces(context))}".rstrip()


def _usage_piece(parameter: click.Parameter, context: click.Context) -> str:
    metavar = parameter.make_metavar(context)
    if isinstance(parameter, click.Argument):
        return metavar
    name = parameter.opts[0].removeprefix("--")
    return f"[{name}]" if isinstance(parameter, click.Option) and parameter.is_flag else f"[{name} {metavar}]"
