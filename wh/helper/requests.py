"""What a daemon asks of its helper, and what it hears: JSON, told apart by the field `verb`.

No request names a path, a command or another interface: the helper has had those from whoever started the
daemon (Charge).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from wh.config.model import HOSTNAME

FRAME_LEN_MAX = 4 << 20
"""Bytes: 20,000 names."""

NAMES_MAX = 1 << 16

HostName = Annotated[str, msgspec.Meta(pattern=rf"\A{HOSTNAME.pattern}\Z")]
IPText = Annotated[str, msgspec.Meta(max_length=45)]
KeyText = Annotated[str, msgspec.Meta(min_length=43, max_length=43)]


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb"):
    pass


class NamedMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hostname: HostName
    addresses: Annotated[list[IPText], msgspec.Meta(max_length=4)]


class WriteNames(_Request, frozen=True, tag="write-names"):
    """Let the hosts file have these, each as the network file has it, in our interface's block."""

    names: Annotated[list[NamedMember], msgspec.Meta(max_length=NAMES_MAX)]


class RemoveNames(_Request, frozen=True, tag="remove-names"):
    """Take our interface's block out of the hosts file."""


class OpenNetworkFile(_Request, frozen=True, tag="open-network-file"):
    """A descriptor, to read from."""


class ClaimAlias(_Request, frozen=True, tag="claim-alias"):
    """Change the network file: the alias's line becomes one of the claimant's."""

    alias: KeyText
    claimant: KeyText


class AddAlias(_Request, frozen=True, tag="add-alias"):
    """Change the network file: a line for a member yet to come. expires: Unix time."""

    name: HostName
    alias: KeyText
    expires: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] | None = None


class RemoveMember(_Request, frozen=True, tag="remove-member"):
    """Change the network file: a member's line, or an alias's, goes."""

    key: KeyText


class RemoveSocket(_Request, frozen=True, tag="remove-socket"):
    """Of our interface, where it is still the file with this number. which: that of `wh`, or that of `wg`."""

    which: Literal["wh", "wg"]
    inode: Annotated[int, msgspec.Meta(ge=1)]


class OpenLog(_Request, frozen=True, tag="open-log"):
    """A descriptor of our log, to append to: made anew where what it was has been moved away."""


class StartGatewayWorker(_Request, frozen=True, tag="start-gateway-worker"):
    """A process without privileges that asks one question of a UPnP gateway (wh.net.mapping.igd_worker). A
    descriptor to talk with it. The one before is ended."""


class EndGatewayWorker(_Request, frozen=True, tag="end-gateway-worker"):
    """Whatever it does now. That there is none is no error."""


class FindManagers(_Request, frozen=True, tag="find-managers"):
    """Which programs that manage networks run on this host, by the names of wh.helper.managers."""


FileEdit = ClaimAlias | AddAlias | RemoveMember
GatewayRequest = StartGatewayWorker | EndGatewayWorker
Request = (
    WriteNames
    | RemoveNames
    | OpenNetworkFile
    | FileEdit
    | RemoveSocket
    | OpenLog
    | GatewayRequest
    | FindManagers
)


class Charge(msgspec.Struct, frozen=True):
    """The first message, before the daemon gives up its privileges. hosts_path, config_path: None where there
    is nothing to change."""

    interface: str
    run_directory: str
    hosts_path: str | None
    config_path: str | None


class Refusal(msgspec.Struct, frozen=True):
    """An error, to be raised on the other side: of ConfigError, else of SystemSetupError."""

    message: str
    code: str
    hint: str = ""
    place: str | None = None
    of_config: bool = False


class Reply(msgspec.Struct, frozen=True):
    """warnings: of what was done all the same. descriptor: whether one comes with this. found: names."""

    refusal: Refusal | None = None
    warnings: list[str] = []
    descriptor: bool = False
    found: list[str] = []
