"""What the helper does, each verb a function of its request; the table at the end has them all.

Every argument is checked here, whoever sent it: what comes is as if from the network.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from wh.config import parser
from wh.config.model import IPAddress, Network
from wh.config.network_file import NetworkFile, open_network_file
from wh.config.reloading import require_reloadable
from wh.errors import Code, ConfigError, SystemSetupError
from wh.helper.file_edits import change_of
from wh.helper.managers import running_managers
from wh.helper.requests import (
    AddAlias,
    Charge,
    ClaimAlias,
    EndGatewayWorker,
    FileEdit,
    FindManagers,
    OpenLog,
    OpenNetworkFile,
    RemoveMember,
    RemoveNames,
    RemoveSocket,
    StartGatewayWorker,
    WriteNames,
)
from wh.ipc.listener import is_alive
from wh.ipc.paths import LOG_MODE, log_path, socket_path
from wh.naming import hosts
from wh.naming.table import NameEntry, NameTable
from wh.net.mapping.igd_process import GatewayWorker
from wh.net.wireguard.uapi_paths import uapi_path
from wh.system import files
from wh.system.standard_streams import STDERR, STDOUT


class Result(NamedTuple):
    """descriptor: the receiver's from then on."""

    warnings: list[str] = []
    descriptor: int | None = None
    found: list[str] = []


@dataclass
class Office:
    """What the verbs work with. network: as it was at the start; its settings that a reload cannot change
    hold for the daemon's life."""

    charge: Charge
    network: Network
    worker: GatewayWorker = field(default_factory=GatewayWorker)

    def hosts_path(self) -> Path:
        if self.charge.hosts_path is None:
            raise SystemSetupError("this daemon leaves the hosts file alone", code=Code.HOSTS_FILE)
        return Path(self.charge.hosts_path)

    def config_path(self) -> str:
        if self.charge.config_path is None:
            raise ConfigError("there is no network file", code=Code.FILE_UNREADABLE)
        return self.charge.config_path


def write_names(office: Office, request: WriteNames) -> Result:
    """Those of other daemons that were killed go. Raises ConfigError for a name that the network file does
    not give."""
    entries = _as_in_file(office, request)
    path, directory = office.hosts_path(), Path(office.charge.run_directory)
    for interface in hosts.interfaces(path) - {office.charge.interface}:
        if not _is_running(office, interface):
            hosts.remove(path, interface, run_directory=directory)
    conflicts = hosts.write(path, office.charge.interface, entries, run_directory=directory)
    return Result(
        [
            f"{path}:{conflict.line} gives {conflict.hostname} the address {conflict.address}; that line wins"
            for conflict in conflicts
        ]
    )


def _is_running(office: Office, interface: str) -> bool:
    """The name is the hosts file's: anything may stand there."""
    try:
        name = Path(socket_path(interface)).name
    except ValueError:
        return True  # not ours to judge
    return is_alive(Path(office.charge.run_directory) / name)


def _as_in_file(office: Office, request: WriteNames) -> list[NameEntry]:
    network = office.network
    if office.charge.config_path is not None:
        network = parser.load(office.charge.config_path)
    table = NameTable(network)
    members = {peer.key for peer in network.peers if peer.trusted and not peer.is_alias}
    entries = []
    for name in request.names:
        entry = table.find(name.hostname)
        addresses = {_address(text) for text in name.addresses}
        known = entry is not None and entry.key in members and entry.hostname == name.hostname
        if entry is None or not known or not addresses <= set(entry.addresses):
            raise ConfigError(
                f"the network file has no {name.hostname} at these addresses", code=Code.UNKNOWN_PEER
            )
        entries.append(NameEntry(entry.key, entry.hostname, tuple(map(_address, name.addresses))))
    return entries


def _address(text: str) -> IPAddress:
    """Raises ConfigError."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no address", code=Code.BAD_PRIVATE_IP) from None


def remove_names(office: Office, request: RemoveNames) -> Result:
    hosts.remove(
        office.hosts_path(), office.charge.interface, run_directory=Path(office.charge.run_directory)
    )
    return Result()


def open_file(office: Office, request: OpenNetworkFile) -> Result:
    return Result(descriptor=open_network_file(office.config_path()))


def edit_file(office: Office, request: FileEdit) -> Result:
    """Raises ConfigError, also for a file that the daemon could not go over to."""
    file = NetworkFile(office.config_path())
    file.edit(change_of(request), lambda after: require_reloadable(office.network, after))
    return Result()


def remove_socket(office: Office, request: RemoveSocket) -> Result:
    """That it is gone, or another one, is no error."""
    interface = office.charge.interface
    if request.which == "wg":
        path = uapi_path(interface)
    else:
        path = Path(office.charge.run_directory) / Path(socket_path(interface)).name
    try:
        files.remove_socket(path, request.inode)
    except OSError as error:
        raise SystemSetupError(f"cannot remove {path}: {error.strerror}", code=Code.RUN_DIRECTORY) from error
    return Result()


def open_log(office: Office, request: OpenLog) -> Result:
    """Ours goes there too."""
    path = log_path(office.charge.interface)
    try:
        with files.open_place(path) as place:
            descriptor = place.open(os.O_WRONLY | os.O_CREAT | os.O_APPEND, LOG_MODE)
    except OSError as error:
        raise SystemSetupError(f"cannot open {path}: {error.strerror}", code=Code.RUN_DIRECTORY) from error
    os.set_blocking(descriptor, True)
    for standard in (STDOUT, STDERR):
        os.dup2(descriptor, standard)
    return Result(descriptor=descriptor)


def start_gateway_worker(office: Office, request: StartGatewayWorker) -> Result:
    return Result(descriptor=office.worker.start().detach())


def end_gateway_worker(office: Office, request: EndGatewayWorker) -> Result:
    office.worker.end()
    return Result()


def find_managers(office: Office, request: FindManagers) -> Result:
    return Result(found=running_managers())


Verb = Callable[[Office, Any], Result]
"""Raises ConfigError or SystemSetupError, InvalidKey; nothing else, and nothing was done then."""

VERBS: dict[type, Verb] = {
    WriteNames: write_names,
    RemoveNames: remove_names,
    OpenNetworkFile: open_file,
    ClaimAlias: edit_file,
    AddAlias: edit_file,
    RemoveMember: edit_file,
    RemoveSocket: remove_socket,
    OpenLog: open_log,
    StartGatewayWorker: start_gateway_worker,
    EndGatewayWorker: end_gateway_worker,
    FindManagers: find_managers,
}
