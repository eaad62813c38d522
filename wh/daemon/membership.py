"""Who comes into a network and who goes: claims of aliases, invitations, revocations, each one change to the
network file and a reload of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import Protocol

from wh.config import edits
from wh.config.model import Network, PeerKind
from wh.config.parser import parse
from wh.config.writer import render
from wh.daemon.persistence.claim_log import ClaimLog
from wh.engine.events import Key
from wh.errors import Code, ConfigError
from wh.helper.file_edits import change_of
from wh.helper.requests import AddAlias, ClaimAlias, FileEdit, RemoveMember
from wh.node.status import NodeStatus
from wh.trust import invitation
from wh.wire.address import Address
from wh.wire.messages import AuthStatus
from whcore.errors import WireHubError
from whcore.keys import decode_key, encode_key

log = logging.getLogger(__name__)

ENDPOINTS_TOLD = 4
"""Of a server's addresses in an invitation, so that it stays short."""

_NETWORK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


class Reloading(Protocol):
    """What is needed of a running node: wh.daemon.running_node.RunningNode."""

    @property
    def network(self) -> Network: ...

    @property
    def own_key(self) -> Key: ...

    async def edit_file(self, edit: FileEdit) -> None:
        """Change the network file. Raises ConfigError, SystemSetupError."""

    async def reload(self) -> object:
        """Read the network file again."""

    async def adopt(self, network: Network) -> object:
        """To a network that is in no file."""


class Membership:
    """has_file: False where the network is in no file, and ends with the daemon."""

    def __init__(self, node: Reloading, claims: ClaimLog, *, has_file: bool) -> None:
        self._node = node
        self._has_file = has_file
        self._claims = claims
        self._changing = asyncio.Lock()

    def former_claims(self) -> tuple[tuple[Key, Key], ...]:
        """Alias and claimant of claims that earlier runs heard. Blocks."""
        self._claims.load()
        return self._claims.items()

    async def bind(self, alias: Key, claimant: Key, check_words: tuple[str, ...]) -> AuthStatus:
        """Give the alias's place to the claimant, for good. Another daemon with the same file may have been
        first: then the file says so."""
        async with self._changing:
            try:
                status = await self._bind(alias, claimant, check_words)
            except WireHubError as error:
                log.error("the claim of %s failed: %s", encode_key(alias), error)
                return AuthStatus.FAILED
        if status is AuthStatus.OK:
            self._tell(claimant)
        return status

    async def _bind(self, alias: Key, claimant: Key, check_words: tuple[str, ...]) -> AuthStatus:
        """Noted before it is written, and forgotten where it cannot be. Raises WireHubError."""
        former = self._claims.claim_of(alias)
        await asyncio.to_thread(self._claims.add, alias, claimant, check_words)
        try:
            await self._write(ClaimAlias(encode_key(alias), encode_key(claimant)))
        except WireHubError as error:
            await asyncio.to_thread(self._claims.restore, alias, former)
            if not isinstance(error, ConfigError) or error.code != Code.UNKNOWN_PEER:
                raise
        await self._take_up()
        peer = self._node.network.peer(claimant)
        return AuthStatus.OK if peer is not None and peer.trusted else AuthStatus.USED

    def _tell(self, claimant: Key) -> None:
        peer = self._node.network.peer(claimant)
        words = " ".join(self.check_words(claimant))
        name = peer.hostname if peer is not None else None
        log.info("%s is now %s; check words: %s", name or "an alias", encode_key(claimant), words)

    async def invite(self, name: str, expires_s: int | None, status: NodeStatus) -> invitation.Invitation:
        """Keep a place for a member yet to come. status: says where this node can be found. Raises
        ConfigError, InvitationError."""
        network = self._node.network
        invitation.check_work(network.workbit)
        seed = secrets.token_bytes(invitation.SEED_LEN)
        expires = None if expires_s is None else int(time.time()) + expires_s
        ours, strangers = _public_nodes(network, status)
        invited = invitation.Invitation(
            self._node.own_key,
            seed,
            expiry=expires or 0,
            endpoints=_endpoints(network, status),
            relays=_relays(status),
            bootstraps=ours,
            guides=strangers,
            subnet=network.subnet,
            network_name=network.name if network.name and _NETWORK_NAME.fullmatch(network.name) else None,
            namespace=network.namespace,
            workbit=network.workbit,
            network_secret=None if network.secret is None else decode_key(network.secret),
        )
        alias = await asyncio.to_thread(_public_half, invited)
        async with self._changing:
            await self._change(AddAlias(edits.read_name(name), encode_key(alias), expires))
        return invited

    async def revoke(self, key: Key) -> None:
        """Take a member's line away, or that of an alias that nobody has claimed. Raises ConfigError."""
        if key == self._node.own_key:
            raise ConfigError("a node cannot revoke itself", code=Code.UNKNOWN_PEER)
        async with self._changing:
            await self._change(RemoveMember(encode_key(key)))

    def check_words(self, claimant: Key) -> tuple[str, ...]:
        """Of a member that came in by an alias; of any other none."""
        return self._claims.words_of(claimant)

    async def _change(self, edit: FileEdit) -> None:
        await self._write(edit)
        await self._take_up()

    async def _write(self, edit: FileEdit) -> None:
        if self._has_file:
            await self._node.edit_file(edit)
        else:
            await self._node.adopt(parse(change_of(edit)(render(self._node.network))))

    async def _take_up(self) -> None:
        """What stands in the file now, whoever wrote it."""
        if self._has_file:
            await self._node.reload()


def _public_half(invited: invitation.Invitation) -> Key:
    secret = invited.alias_secret()
    try:
        return secret.public_key
    finally:
        secret.close()


def _endpoints(network: Network, status: NodeStatus) -> tuple[Address, ...]:
    """What the file tells others first, then what was confirmed."""
    own = network.peer(status.key)
    told = own.endpoint.address if own is not None and own.endpoint is not None else None
    found = sorted(status.candidates, key=lambda each: not each.confirmed)
    addresses = [] if told is None else [told]
    addresses += [each.endpoint for each in found]
    return tuple(dict.fromkeys(addresses))[:ENDPOINTS_TOLD]


def _relays(status: NodeStatus) -> tuple[invitation.Contact, ...]:
    """Where we hold reservations now."""
    return tuple((each.key, each.endpoint) for each in status.relays[: invitation.MAX_RELAYS])


def _public_nodes(
    network: Network, status: NodeStatus
) -> tuple[tuple[invitation.Contact, ...], tuple[invitation.Contact, ...]]:
    """Those that live: boots of the file and public members, for the newcomer's own file; and in what is left
    of their number strangers of the table, for the claim alone."""
    boots = {peer.key for peer in network.peers if peer.kind is PeerKind.BOOT}
    members = {peer.key for peer in network.peers if peer.trusted and not peer.is_alias}
    live = [each for each in status.contacts if each.alive and each.key != status.key]
    ours = [each for each in live if each.key in boots]
    ours += [each for each in live if each.key in members - boots]
    strangers = [each for each in live if each.key not in boots | members]
    most = invitation.MAX_BOOTSTRAPS
    told = [(each.key, each.endpoint) for each in ours[:most]]
    return tuple(told), tuple((each.key, each.endpoint) for each in strangers[: most - len(told)])
