"""`wh join`."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from wh.config.model import Endpoint, IPNetwork, Network, Peer, PeerKind
from wh.config.parser import parse
from wh.config.writer import render
from wh.daemon import host_facts
from wh.errors import Code, ConfigError, InvitationError, IpcError, SystemSetupError
from wh.ipc import client, schema
from wh.system.files import PUBLIC_DIRECTORY, UnsafePlace, new_file, open_place, write_all
from wh.trust.degrees import Source, boot_lines, reachable
from wh.trust.invitation import Contact, Flag, Invitation
from wh.wire.address import Address, ip_of, port_of
from whcore.keys import SecretKey, encode_key, encode_key_wg
from whtools import launcher
from whtools.application import command
from whtools.commands.down import stop
from whtools.commands.up import check_interface, default_interface, describe, prepare_log
from whtools.key_search import search
from whtools.membership import read_invitation
from whtools.network_file import in_memory, load
from whtools.outcome import print_warning
from whtools.parameters import InvitedSubnet, OneOf, WholeNumber
from whtools.place import (
    check_subnet,
    describe_claims,
    describe_invitation,
    describe_place,
    judge_place,
    names_of,
)
from whtools.private_key import read_key_file, to_descriptor

CLAIM_TIMEOUT_S = 30.0
DIRECTORY = Path("/etc/wirehub")
REFUSALS = (
    Code.INVITATION_USED,
    Code.INVITATION_EXPIRED,
    Code.INVITATION_REFUSED,
    Code.NO_CHECK_WORDS,
)


@command("join")
@click.argument("invitation", required=False, type=click.Path(), metavar="[INVITATION]")
@click.option(
    "--private-key", type=click.Path(), metavar="FILE", help="Our key; made if there is no such file."
)
@click.option("--config", type=click.Path(dir_okay=False), metavar="FILE", help="The network file to make.")
@click.option(
    "--interface", metavar="NAME", help="Name of the interface [wh- and the key's first characters]."
)
@click.option(
    "--subnet",
    type=InvitedSubnet(),
    metavar="ADDRESS/LENGTH",
    help="The network's subnet: needed where this machine would not take it from others.",
)
@click.option("--listen-port", type=WholeNumber(0, 0xFFFF), metavar="PORT", help="UDP port; 0: any.")
@click.option("--mode", type=OneOf("unknown", "direct", "nat"), metavar="MODE", help="As of wh up.")
@click.option("--no-hosts", is_flag=True, help="Leave /etc/hosts alone.")
@click.option("--no-port-mapping", is_flag=True, help="As of wh up.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def join(
    invitation: str | None,
    private_key: str | None,
    config: str | None,
    interface: str | None,
    subnet: IPNetwork | None,
    listen_port: int | None,
    mode: str | None,
    no_hosts: bool,
    no_port_mapping: bool,
    as_json: bool,
) -> None:
    """Join a network by an INVITATION: make a key, claim the place, write the network file, start the daemon.

    INVITATION is what wh invite printed, or a file that holds it, or - for standard input; without, it is
    taken from the variable WH_INVITATION. The subnet and the names are printed before they are used: a subnet
    that is not private, or that this machine has a part of, is not taken unless it is said here. The files
    are /etc/wirehub/NAME and NAME.sk, after the interface. Joining once more with the same key is no second
    use.
    """
    say = functools.partial(click.echo, err=as_json)
    text, invited = read_invitation(invitation)
    check(invited, subnet)
    say(describe_invitation(invited))
    newcomer = prepare(invited, private_key, config, interface)
    launch = newcomer.launch(listen_port, mode, hosts=not no_hosts, port_mapping=not no_port_mapping)
    joined = take_place(newcomer, launch, text, invited, subnet)
    with place_if_needed(launch, newcomer.key_path):
        say("\n".join(joined.claims()))
        ready = start(launch, newcomer.secret, joined.network)
    newcomer.secret.close()
    for warning in (*joined.warnings, *ready.warnings):
        print_warning(warning)
    if as_json:
        click.echo(msgspec.json.encode({"ready": ready, "place": joined.place}).decode())
    else:
        click.echo("\n".join([describe(ready, joined.network), *joined.words()]))


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Who joins, as what interface. new: the key was made for this. begun: what an earlier join with the
    key has got, and written, before something else failed."""

    secret: SecretKey
    new: bool
    interface: str
    config_path: Path
    key_path: Path
    begun: Network | None

    def launch(
        self, listen_port: int | None, mode: str | None, *, hosts: bool, port_mapping: bool
    ) -> launcher.Launch:
        """Without its descriptors, which start() makes."""
        return launcher.Launch(
            config_path=str(self.config_path.absolute()),
            config_fd=-1,
            key_fd=-1,
            interface=self.interface,
            listen_port=listen_port,
            mode=mode,
            hosts=hosts,
            ephemeral=False,
            port_mapping=port_mapping,
        )


def prepare(
    invited: Invitation, private_key: str | None, config: str | None, interface: str | None
) -> Newcomer:
    """The key is on disk, and there is room for the network file: only then the invitation may be used. A key
    that is new is written before the claim: whoever has claimed with it must still have it after a crash."""
    known = key_file_of(private_key, config, interface)
    secret, new = find_key(known, invited)
    invited.check_usable(now_unix=time.time(), own_key=secret.public_key)
    name = check_interface(default_interface(secret) if interface is None else interface)
    config_path = Path(config) if config else DIRECTORY / name
    key_path = known or beside(config_path)
    begun = None if new else place_of(config_path, secret, invited)
    if begun is None:
        check_place(config_path, key_path, new=new)
    host_facts.rehearse_interface(name)
    if new:
        write_key(key_path, secret)
    return Newcomer(secret, new, name, config_path, key_path, begun)


class Joined(NamedTuple):
    """place: None where an earlier join got it."""

    network: Network
    place: schema.Authenticated | None = None
    warnings: Sequence[str] = ()

    def claims(self) -> Iterable[str]:
        return describe_claims(self.place) if self.place else ["its network file is there already"]

    def words(self) -> Iterable[str]:
        return describe_place(self.place) if self.place else ()


def take_place(
    newcomer: Newcomer,
    launch: launcher.Launch,
    text: str,
    invited: Invitation,
    subnet: IPNetwork | None,
) -> Joined:
    """What the server gave, as far as this host may have it: its network file is written."""
    if newcomer.begun is not None:
        return Joined(newcomer.begun)
    with key_if_needed(newcomer.key_path, new=newcomer.new):
        place = claim(launch, newcomer.secret, text, invited)
        check_exchange(place, new=newcomer.new)
        place, warnings = judge_place(invited, place, host_facts.collect(names_of(place)), subnet)
        network = network_of(invited, place, newcomer.secret.public_key)
        write_file(newcomer.config_path, render(network), 0o600)
    return Joined(network, place, warnings)


def check(invited: Invitation, subnet: IPNetwork | None) -> None:
    """Before anything is made. Raises InvitationError."""
    invited.check_usable(now_unix=time.time())
    if invited.flags & Flag.STREAM:
        raise InvitationError(
            "the invitation is for a stream, not for a network",
            code=Code.INVITATION_MALFORMED,
            hint="use it with 0nc",
        )
    if invited.subnet is not None:
        check_subnet(Source.INVITATION, invited.subnet, host_facts.collect(), subnet)


def check_exchange(place: schema.Authenticated, *, new: bool) -> None:
    """Who answers a key that is new as if it were a member hides the check words. Raises InvitationError."""
    if new and not place.check_words:
        raise InvitationError(
            "the node that invited left out what check words come from",
            code=Code.NO_CHECK_WORDS,
            hint="somebody may be between: ask for a new invitation, over another way",
        )


def key_file_of(private_key: str | None, config: str | None, interface: str | None) -> Path | None:
    """Where the key is, or will be; None where its own name decides that."""
    if private_key is not None:
        return Path(private_key)
    if config is not None:
        return beside(Path(config))
    return None if interface is None else beside(DIRECTORY / interface)


def beside(config_path: Path) -> Path:
    return config_path.with_name(f"{config_path.name}.sk")


def find_key(path: Path | None, invited: Invitation) -> tuple[SecretKey, bool]:
    """The key of a file, or a new one with the work that the network asks for; whether it is new."""
    if path is not None and path.exists():
        return read_key_file(str(path)), False
    return search(invited.workbit, invited.namespace), True


def place_of(config_path: Path, secret: SecretKey, invited: Invitation) -> Network | None:
    """What an earlier join with this key has got, and written, before something else failed: it is to be
    finished. None: there is none."""
    try:
        network = load(str(config_path))
    except ConfigError:
        return None
    own, server = network.peer(secret.public_key), network.peer(invited.server_key)
    return network if own is not None and own.trusted and server is not None else None


def check_place(config_path: Path, key_path: Path, *, new: bool) -> None:
    """Nothing is overwritten, and all can be written: the invitation is good for one use. Raises
    SystemSetupError."""
    for path in (config_path, key_path) if new else (config_path,):
        try:
            with open_place(path, make=PUBLIC_DIRECTORY) as place:
                exists = place.status() is not None
                writable = os.access(".", os.W_OK, dir_fd=place.directory)
        except OSError as error:
            raise _unwritable(path.parent, error) from None
        if exists:
            raise SystemSetupError(
                f"{path} exists", code=Code.FILE_UNWRITABLE, hint="name another with: interface NAME"
            )
        if not writable:
            raise SystemSetupError(
                f"no permission to write into {path.parent}", code=Code.NOT_PERMITTED, hint="run as root"
            )


def write_key(path: Path, secret: SecretKey) -> None:
    with _new_file(path, 0o600) as descriptor:
        secret.write_fd(descriptor)


@contextlib.contextmanager
def key_if_needed(path: Path, *, new: bool) -> Iterator[None]:
    """A claim that was refused needs no key. Any other that failed may have been heard: the same key makes
    the next one no second use."""
    try:
        yield
    except BaseException as error:
        refused = getattr(error, "code", None) in REFUSALS
        if new and refused:
            path.unlink(missing_ok=True)
        if new and not refused:
            print_warning(f"the key {path} is kept", hint=f"join again with: private-key {path}")
        raise


@contextlib.contextmanager
def place_if_needed(launch: launcher.Launch, key_path: Path) -> Iterator[None]:
    """The place is taken: whoever mends what fails from here on needs no other invitation."""
    try:
        yield
    except BaseException:
        print_warning(
            f"the place in the network is this machine's: {launch.config_path} has it",
            hint="once it is mended: "
            f"wh up {launch.config_path} private-key {key_path} interface {launch.interface}",
        )
        raise


def write_file(path: Path, text: str, mode: int) -> None:
    """Whole, or not at all."""
    with _new_file(path, mode) as descriptor:
        try:
            write_all(descriptor, text.encode())
            os.fsync(descriptor)
        except OSError:
            path.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _new_file(path: Path, mode: int) -> Iterator[int]:
    """On disk at the end. Raises SystemSetupError."""
    try:
        with open_place(path) as place, new_file(place, mode) as descriptor:
            yield descriptor
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> SystemSetupError:
    hint = "run as root" if isinstance(error, PermissionError) else ""
    if isinstance(error, UnsafePlace):
        hint = "keep key and network file where nobody else can write, such as /etc/wirehub"
    return SystemSetupError(f"cannot write {path}: {error.strerror}", code=Code.FILE_UNWRITABLE, hint=hint)


def claim(launch: launcher.Launch, secret: SecretKey, text: str, invited: Invitation) -> schema.Authenticated:
    """By a daemon that is in no overlay yet; the place that the server gave. Raises IpcError."""
    start(launch, secret, waiting_room(invited))
    try:
        return client.call(
            launch.interface, schema.CLAIM, schema.ClaimArguments(text), timeout=CLAIM_TIMEOUT_S
        )
    finally:
        with contextlib.suppress(IpcError):
            stop(launch.interface)


def start(launch: launcher.Launch, secret: SecretKey, network: Network) -> schema.Ready:
    """A daemon with this network, which it need not read from a file."""
    config_fd = in_memory(render(network).encode())
    started = launch._replace(config_fd=config_fd, key_fd=to_descriptor(secret))
    try:
        return launcher.run_in_background(started, prepare_log(launch.interface))
    finally:
        os.close(started.config_fd)
        os.close(started.key_fd)


# Network files


def waiting_room(invited: Invitation) -> Network:
    """What is needed to find the server: no subnet and no members, so no interface is made. Here alone
    strangers may help, too."""
    boots = lines_of(reachable(Source.INVITATION, (*invited.bootstraps, *invited.guides)))
    server = Peer(PeerKind.PEER, invited.server_key)
    peers = boots if any(boot.key == server.key for boot in boots) else (*boots, server)
    return settings_of(invited, peers)


def network_of(invited: Invitation, place: schema.Authenticated, own_key: bytes) -> Network:
    """The newcomer's network file. place: as judge_place() left it; what a network file cannot say raises
    InvitationError."""
    boots = lines_of(boot_lines(Source.INVITATION, invited.bootstraps))
    server_line = [place.server_name, *place.server_addresses[:1], encode_key(invited.server_key)]
    if place.endpoint is not None:
        server_line.append(place.endpoint)
    lines = [["trust", place.name, *place.addresses[:1], encode_key(own_key)]]
    if place.server_addresses:
        lines.insert(0, ["trust", *server_line])
    elif all(boot.key != invited.server_key for boot in boots):
        lines.insert(0, ["peer", *server_line])
    text = "\n".join(" ".join(word for word in line if word) for line in lines)
    try:
        told = parse(f"subnet {place.subnet}\n{text}\n")
        return parse(render(replace(settings_of(invited, (*boots, *told.peers)), subnet=told.subnet)))
    except ConfigError as error:
        raise InvitationError(
            f"the node that invited gave a place that cannot be: {error}", code=Code.INVITATION_FAILED
        ) from None


def lines_of(contacts: Iterable[Contact]) -> tuple[Peer, ...]:
    return tuple(Peer(PeerKind.BOOT, key, endpoint=endpoint_of(address)) for key, address in contacts)


def endpoint_of(address: Address) -> Endpoint:
    return Endpoint(str(ip_of(address)), port_of(address))


def settings_of(invited: Invitation, peers: tuple[Peer, ...]) -> Network:
    secret = invited.network_secret
    return Network(
        name=invited.network_name,
        namespace=invited.namespace,
        workbit=invited.workbit,
        secret=None if secret is None else encode_key_wg(secret),
        peers=peers,
    )
