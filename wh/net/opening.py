"""Opening sockets: nothing stays behind where it fails, one an address family, what to tell of a port."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from wh.errors import Code, SystemSetupError


@contextmanager
def closed_on_error(opened: socket.socket) -> Iterator[socket.socket]:
    try:
        yield opened
    except BaseException:
        opened.close()
        raise


def one_a_family(open_socket: Callable[[socket.AddressFamily], socket.socket]) -> list[socket.socket]:
    """AF_INET, then AF_INET6 where the host has IPv6. Raises OSError."""
    with ExitStack() as undo:
        opened = [undo.enter_context(closed_on_error(open_socket(socket.AF_INET)))]
        try:
            opened.append(open_socket(socket.AF_INET6))
        except OSError as error:
            if not is_no_ipv6(error):
                raise
    return opened


def is_no_ipv6(error: OSError) -> bool:
    """Not built into the kernel, or net.ipv6.conf.all.disable_ipv6 = 1."""
    return error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def refused_port(error: OSError, transport: str, port: int, remedy: str) -> SystemSetupError | None:
    """What to tell where the port is the cause. transport: UDP or TCP. remedy: where to name another one."""
    if error.errno == errno.EADDRINUSE:
        return SystemSetupError(
            f"{transport} port {port} is taken by another program",
            code=Code.PORT_TAKEN,
            hint=f"see which with `ss -{transport[0].lower()}lpn sport = :{port}`, or take another {remedy}",
        )
    if error.errno == errno.EACCES:
        return SystemSetupError(
            f"no permission for {transport} port {port}",
            code=Code.NOT_PERMITTED,
            hint="ports below 1024 need root or CAP_NET_BIND_SERVICE",
        )
    return None
