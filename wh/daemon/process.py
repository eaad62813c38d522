"""The daemon's process: `python -m wh.daemon.process`, started by `wh up` with the network file and the
key as open files.

It reports on the readiness pipe (wh.ipc.schema.Readiness) once the interface is usable, or why it cannot be.
SIGTERM and SIGINT stop it cleanly, SIGHUP reads the network file again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from wh.config import parser
from wh.config.model import Network
from wh.daemon.authority import Authority
from wh.daemon.orphans import FIRST_PROCESS, reap_orphans
from wh.errors import Code, SystemSetupError
from wh.helper.requests import Charge
from wh.ipc import schema
from wh.ipc.paths import run_dir
from wh.naming.hosts import HOSTS_PATH
from wh.system import logs, standard_streams
from wh.system.exit_codes import exit_code_of
from wh.system.memory import protect_memory
from wh.system.signals import is_ignored
from whcore.errors import WireHubError
from whcore.keys import SecretKey

if TYPE_CHECKING:  # imported while the helper starts beside
    from wh.daemon.parts import Options
    from wh.daemon.running_node import RunningNode
    from wh.net.private.namespace import PrivateNamespace

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
log = logging.getLogger("wh.daemon.process")  # not __main__


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 after a clean stop, else that of the error (wh.system.exit_codes)."""
    if arguments is None:
        standard_streams.prepare()
    options = _parse(arguments)
    protect_memory()
    with contextlib.ExitStack() as undo:
        try:
            logs.configure()
            authority = undo.enter_context(contextlib.closing(_begin(options)))
            network, secret_key = _read_inputs(options)
        except WireHubError as error:
            _report_failure(options.ready_fd, error)
            return exit_code_of(error.code)
        import uvloop

        return uvloop.run(_serve(network, secret_key, options, authority))


def _begin(options: argparse.Namespace) -> Authority:
    """Raises SystemSetupError. No process that we start has what was passed to us."""
    for descriptor in (options.config_fd, options.key_fd, options.ready_fd):
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    hosts = None if options.no_hosts or options.isolated else str(HOSTS_PATH)
    charge = Charge(options.interface, run_dir(), hosts, options.config_path)
    return Authority(charge, options.config_fd, isolated=options.isolated)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(prog="wh.daemon.process", description=__doc__, allow_abbrev=False)
    add = options.add_argument
    add("--config-path", help="the network file, for reloads")
    add("--config-fd", type=int, required=True, help="the network file, open")
    add("--key-fd", type=int, required=True, help="the secret key, open")
    add("--ready-fd", type=int, help="where to report, besides the log")
    add("--interface", required=True)
    add("--listen-port", type=int, help="0: any")
    add("--mode", choices=("unknown", "direct", "nat"), default="unknown")
    add("--isolated", action="store_true", help="make the interface in a network namespace of its own")
    add("--lan", action="store_true", help="announce the node in its LANs, and listen to others there")
    add("--no-port-mapping", action="store_true", help="ask no gateway for ports")
    add("--no-hosts", action="store_true", help="leave the hosts file alone")
    add("--ephemeral", action="store_true", help="keep no state: the key will not come again")
    return options.parse_args(arguments)


def _read_inputs(options: argparse.Namespace) -> tuple[Network, SecretKey]:
    """Closes both fds. Raises WireHubError."""
    try:
        with open(options.config_fd, "rb") as config:  # noqa: PTH123 - a descriptor
            network = parser.decode(config.read(parser.MAX_FILE_SIZE + 1), path=options.config_path)
        return network, SecretKey.read_fd(options.key_fd)
    except OSError as error:
        raise SystemSetupError(f"cannot read what wh up passed on: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            os.close(options.key_fd)


async def _serve(
    network: Network, secret_key: SecretKey, options: argparse.Namespace, authority: Authority
) -> int:
    from wh.config.reloading import needs_interface
    from wh.daemon.running_node import RunningNode
    from wh.net.private.namespace import PrivateNamespace

    with contextlib.ExitStack() as undo:
        isolated = options.isolated and needs_interface(network)
        namespace = undo.enter_context(contextlib.closing(PrivateNamespace())) if isolated else None
        settings = _node_options(options, namespace, authority)
        return await _run(RunningNode(network, secret_key, settings), secret_key, options)


async def _run(node: RunningNode, secret_key: SecretKey, options: argparse.Namespace) -> int:
    in_file = stat.S_ISREG(os.fstat(standard_streams.STDERR).st_mode)
    reloads = _handle_signals(node, has_log=options.ready_fd is not None and in_file)
    background: set[asyncio.Task[None]] = set()
    if os.getpid() == FIRST_PROCESS:
        background.add(asyncio.ensure_future(reap_orphans()))
    try:
        ready = await node.start()
        _report_ready(options.ready_fd, ready, isolated=options.isolated)
        await node.wait_for_stop()
        log.info("stopping")
    except WireHubError as error:
        await node.close()
        _report_failure(options.ready_fd, error)
        return exit_code_of(error.code)
    except Exception:
        log.exception("internal error")
        await node.close()
        _report_failure(options.ready_fd, SystemSetupError("internal error", code=Code.DAEMON_START))
        return 1
    finally:
        for task in reloads | background:
            task.cancel()
        await node.close()
        secret_key.close()
    return 0


def _node_options(
    options: argparse.Namespace, namespace: PrivateNamespace | None, authority: Authority
) -> Options:
    from wh.daemon.parts import Options

    return Options(
        config_path=options.config_path,
        interface=options.interface,
        listen_port=options.listen_port,
        mode=options.mode,
        hosts_path=None if options.no_hosts or options.isolated else HOSTS_PATH,
        ephemeral=options.ephemeral,
        namespace=namespace,
        lan=options.lan,
        port_mapping=not options.no_port_mapping,
        authority=authority,
    )


def _handle_signals(node: RunningNode, *, has_log: bool) -> set[asyncio.Task[None]]:
    """Returns the reloads under way. has_log: standard error is a file of ours.

    A container's first process does not die of a signal that it has no handler for: the signal is lost. So
    whoever starts us there blocks them before, and now they arrive.
    """
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(node, has_log=has_log))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in STOP_SIGNALS:
        if not is_ignored(number):
            loop.add_signal_handler(number, node.request_stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOP_SIGNALS, signal.SIGHUP})
    return reloads


async def _reload(node: RunningNode, *, has_log: bool) -> None:
    """For SIGHUP, which has nobody to tell but the log."""
    if has_log:
        try:
            await node.reopen_log()
        except WireHubError as error:
            log.error("the log stays the file that it was: %s", error)
    try:
        await node.reload()
    except WireHubError as error:
        log.error("nothing was changed: %s", error)


def _report_ready(ready_fd: int | None, ready: schema.Ready, *, isolated: bool) -> None:
    kind = "interface" if ready.has_interface else "public node"
    where = " in a namespace of its own" if isolated and ready.has_interface else ""
    log.info("%s %s is up%s, UDP port %d", kind, ready.interface, where, ready.listen_port)
    for warning in ready.warnings:
        log.warning("%s", warning)
    _report(ready_fd, schema.Readiness(ok=ready))


def _report_failure(ready_fd: int | None, error: WireHubError) -> None:
    log.error("cannot start: %s", error)
    _report(ready_fd, schema.Readiness(error=schema.failure_of(error)))


def _report(ready_fd: int | None, readiness: schema.Readiness) -> None:
    """One line, and the end of the file. Whoever started us may have left: that is not our failure."""
    if ready_fd is None:
        return
    with contextlib.suppress(OSError), os.fdopen(ready_fd, "wb") as pipe:
        pipe.write(msgspec.json.encode(readiness) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
