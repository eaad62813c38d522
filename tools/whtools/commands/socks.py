"""`wh socks`."""

from __future__ import annotations

import contextlib
import socket

import click

from wh.errors import Code, SystemSetupError, UsageError, UserError
from wh.ipc import client, schema
from whtools.application import command
from whtools.commands.run import go_inside
from whtools.parameters import Interface

DEFAULT_LISTEN = "127.0.0.1:1080"
BACKLOG = 128


@command("socks")
@click.argument("interface", type=Interface(), metavar="INTERFACE")
@click.option("--listen", metavar="ADDRESS:PORT", default=DEFAULT_LISTEN, help=f"[{DEFAULT_LISTEN}]")
def socks(interface: str, listen: str) -> None:
    """Let programs of this host into an overlay by a proxy, SOCKS5 and HTTP CONNECT on one port.

    Names of members are looked up in the overlay; other names, and whatever is beyond the overlay, are not
    reached. Everybody who reaches the address is let in. Runs until it is interrupted.
    """
    with listener_at(listen) as listener:
        from wh import socks as proxy  # asyncio takes time to import; inside, our files may be out of reach

        go_inside(interface)
        host, port = listener.getsockname()[:2]
        click.echo(f"proxy on {host} port {port}, into {interface}")
        with contextlib.suppress(KeyboardInterrupt):
            proxy.run(listener, lambda name: resolve(interface, name))


def listener_at(word: str) -> socket.socket:
    host, colon, port = word.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 0xFFFF:
        raise UsageError(f"{word!r} is no address to listen on", hint="write it like 127.0.0.1:1080")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SystemSetupError(
            f"cannot listen on {word}: {error.strerror or error}", code=Code.PORT_TAKEN
        ) from None


def resolve(interface: str, name: str) -> list[str]:
    """The overlay's addresses of a name; none where it has none."""
    try:
        result = client.call(interface, schema.RESOLVE, schema.ResolveArguments(name))
    except UserError:
        return []
    return result.addresses
