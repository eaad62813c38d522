"""`wh socks`."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable

import click

from wh.errors import Code, IpcError, SystemSetupError, UsageError
from wh.ipc import client, schema
from whtools.application import command
from whtools.commands.run import go_inside
from whtools.interfaces import the_only_one
from whtools.parameters import Interface

DEFAULT_LISTEN = "127.0.0.1:1080"
BACKLOG = 128
STATUS_TIMEOUT_S = 5.0


@command("socks")
@click.argument("interface", required=False, type=Interface(), metavar="[INTERFACE]")
@click.option("--listen", metavar="ADDRESS:PORT", default=DEFAULT_LISTEN, help=f"[{DEFAULT_LISTEN}]")
@click.option(
    "--open", "open_to_others", is_flag=True, help="Listen also where other machines can reach the proxy."
)
def socks(interface: str | None, listen: str, open_to_others: bool) -> None:
    """Let programs of this host into an overlay by a proxy, SOCKS5 and HTTP CONNECT on one port.

    It leads to the addresses and names of the other members, by the interface, and nowhere else: not to this
    machine, nor to this node's own address. Everybody who reaches ADDRESS is let in. Runs until it is
    interrupted, or the daemon ends.
    """
    with listener_at(listen, open_to_others=open_to_others) as listener:
        from wh.inside import (
            socks as proxy,  # asyncio takes time to import; inside, our files may be out of reach
        )

        interface = the_only_one(interface)
        status = status_of(interface)
        if not status.has_interface:
            raise UsageError(f"{interface} is a public node: there is no overlay to go into")
        go_inside(status)
        ifindex = index_of(status.device or interface, proxy.bind_to)
        host, port = listener.getsockname()[:2]

        def look() -> proxy.Overlay:
            """Another daemon, which took over the name, is not ours."""
            now = status_of(interface)
            if identity(now) != identity(status):
                raise IpcError(f"the daemon on {interface} has ended", code=Code.NO_DAEMON)
            return proxy.overlay_of(now)

        look()  # the index was read while it lived
        click.echo(f"proxy on {host} port {port}, into {interface}")
        with contextlib.suppress(KeyboardInterrupt):
            proxy.run(listener, look, ifindex)


def status_of(interface: str) -> schema.Status:
    return client.call(interface, schema.STATUS, schema.NoArguments(), timeout=STATUS_TIMEOUT_S)


def identity(status: schema.Status) -> tuple[str, int, float]:
    """Of one run of a daemon."""
    return status.public_key, status.pid, status.started_unix


def index_of(interface: str, bind_to: Callable[[socket.socket, int], None]) -> int:
    """Of the interface, which connections can be bound to. Raises SystemSetupError."""
    try:
        ifindex = socket.if_nametoindex(interface)
        with socket.socket() as probe:
            bind_to(probe, ifindex)
    except OSError as error:
        raise SystemSetupError(
            f"cannot bind connections to {interface}: {error.strerror or error}",
            code=Code.NOT_PERMITTED,
            hint="Linux before 5.7 lets only root do that, and before 5.1 nobody",
        ) from None
    return ifindex


def listener_at(word: str, *, open_to_others: bool) -> socket.socket:
    """Bound to what the word means now; its names are not looked up twice."""
    host, colon, port = word.rpartition(":")
    if not host or not colon or not port.isascii() or not port.isdecimal() or int(port) > 0xFFFF:
        raise UsageError(f"{word!r} is no address to listen on", hint="write it like 127.0.0.1:1080")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family, _, _, _, place = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        if not open_to_others and not is_loopback(str(place[0])):
            raise UsageError(
                f"others than this machine's own programs can reach {word}",
                hint="say so with the word: open",
            )
        return socket.create_server(place, family=family, backlog=BACKLOG)
    except UnicodeError:
        raise UsageError(f"{host[:60]!r} is no name of a host") from None
    except OSError as error:
        raise SystemSetupError(
            f"cannot listen on {word}: {error.strerror or error}", code=Code.PORT_TAKEN
        ) from None


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
