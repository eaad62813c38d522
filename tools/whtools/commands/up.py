"""`wh up`."""

from __future__ import annotations

from pathlib import Path

import click

from wh.config.model import Network
from wh.errors import Code, SystemSetupError, UsageError
from wh.ipc import client, paths
from wh.ipc.schema import Ready
from wh.system.files import PUBLIC_DIRECTORY, open_place
from wh.system.interface_name import RULE, is_interface_name
from whcore.keys import SecretKey, encode_key
from whtools import launcher
from whtools.application import command
from whtools.network_file import doubtful_names, open_network, warn_of_names, warn_of_stranger
from whtools.outcome import print_warning
from whtools.parameters import NETWORK_FILE, OneOf, WholeNumber
from whtools.private_key import ephemeral_key, read_key_file, to_descriptor, warn_of_missing_work
from whtools.terminal import printable

KEY_CHARACTERS_IN_NAME = 8
"""A default interface name is `wh-` and the first characters of the public key, as in the original."""


@command("up")
@click.argument("file", type=NETWORK_FILE, metavar="FILE")
@click.option(
    "--private-key", type=click.Path(), metavar="FILE", help="Our key; without it, one for this run is made."
)
@click.option(
    "--interface", metavar="NAME", help="Name of the interface [wh- and the key's first 8 characters]."
)
@click.option("--listen-port", type=WholeNumber(0, 0xFFFF), metavar="PORT", help="UDP port; 0: any.")
@click.option(
    "--mode",
    type=OneOf("unknown", "direct", "nat"),
    metavar="MODE",
    help="direct: reachable from everywhere; nat: not; unknown, the default: find out.",
)
@click.option("--no-hosts", is_flag=True, help="Leave /etc/hosts alone.")
@click.option(
    "--isolated",
    is_flag=True,
    help="Make the interface in a namespace of its own: wh run goes there. No root.",
)
@click.option("--lan", is_flag=True, help="Find peers in the same LAN by multicast, and be found there.")
@click.option("--no-port-mapping", is_flag=True, help="Ask no router for ports (UPnP, NAT-PMP, PCP).")
@click.option("--foreground", is_flag=True, help="Stay, and log to standard error.")
def up(
    file: str,
    private_key: str | None,
    interface: str | None,
    listen_port: int | None,
    mode: str | None,
    no_hosts: bool,
    isolated: bool,
    lan: bool,
    no_port_mapping: bool,
    foreground: bool,
) -> None:
    """Join the network of FILE: check it, make an interface, start its daemon.

    Returns when the interface is usable, and prints its name. A FILE without subnet and members makes a
    public node, which has no interface and helps others to find each other. FILE may be a pipe, as of a
    shell's <(...): then wh reload has nothing to read again.
    """
    config_path, config_fd, network = open_network(file)
    secret = find_key(private_key, network)
    warn_of_stranger(secret.public_key, network, private_key)
    warn_of_names([] if no_hosts else doubtful_names(network))
    name = check_interface(default_interface(secret) if interface is None else interface)
    launch = launcher.Launch(
        config_path=config_path,
        config_fd=config_fd,
        key_fd=to_descriptor(secret),
        interface=name,
        listen_port=listen_port,
        mode=mode,
        hosts=not no_hosts,
        ephemeral=private_key is None,
        isolated=isolated,
        lan=lan,
        port_mapping=not no_port_mapping,
    )
    secret.close()
    if foreground:
        launcher.run_in_foreground(launch)
    run_in_background(launch, network)


def run_in_background(launch: launcher.Launch, network: Network) -> None:
    ready = launcher.run_in_background(launch, prepare_log(launch.interface))
    for warning in ready.warnings:
        print_warning(warning)
    click.echo(describe(ready, network))


def find_key(path: str | None, network: Network) -> SecretKey:
    if path is None:
        return ephemeral_key(network)
    secret = read_key_file(path)
    warn_of_missing_work(secret, network)
    return secret


def default_interface(secret: SecretKey) -> str:
    return f"wh-{encode_key(secret.public_key)[:KEY_CHARACTERS_IN_NAME]}"


def check_interface(name: str) -> str:
    """Raises UsageError for a name that no interface can have, SystemSetupError where a daemon has it."""
    if not is_interface_name(name):
        raise UsageError(
            f"{name!r} cannot be the name of an interface, or is a word of wh",
            code=Code.BAD_INTERFACE_NAME,
            hint=RULE,
        )
    if name in client.list_interfaces():
        raise SystemSetupError(
            f"a daemon already runs on {name}",
            code=Code.ALREADY_RUNNING,
            hint=f"stop it with: wh down {name}, or name another with: interface NAME",
        )
    return name


def prepare_log(interface: str) -> Path:
    """Where the daemon's log can be made. Raises SystemSetupError."""
    log = paths.log_path(interface)
    try:
        with open_place(log, make=PUBLIC_DIRECTORY):
            return log
    except PermissionError:
        raise SystemSetupError(
            f"no permission to make {log.parent}", code=Code.NOT_PERMITTED, hint="run as root"
        ) from None
    except OSError as error:
        raise SystemSetupError(
            f"cannot use {log.parent}: {error.strerror}",
            code=Code.RUN_DIRECTORY,
            hint="WH_RUNDIR and WH_LOGPATH must lead where only this user can write",
        ) from None


def describe(ready: Ready, network: Network) -> str:
    facts = [f"{'interface' if ready.has_interface else 'public node'} {ready.interface}"]
    if network.name:
        facts.append(f"network {network.name}")
    if ready.address:
        facts.append(f"address {ready.address}")
    facts.append(f"port {ready.listen_port}")
    if not ready.has_interface:
        facts.append("no interface is made: the file lists neither subnet nor members")
    return printable(", ".join(facts))
