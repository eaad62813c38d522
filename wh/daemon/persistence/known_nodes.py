"""Servers and members that the last run knew, so that a start needs no bootstrap that lives.

A file beside the state, written rarely. What it says is tried as if somebody had named it, and believed in
nothing: an address there gets a PING, a key has to answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec

from wh.daemon.persistence.state import write_own_file
from wh.dht.table.memory import REMEMBERED_MAX
from wh.engine.events import Remembered
from wh.system.files import read_own_file
from wh.wire.address import is_usable
from wh.wire.fields import AddressBytes, KeyBytes, Uint8
from wh.wire.messages import Contact
from wh.wire.public_key import is_public_key

MEMBERS_MAX = 256
FILE_LEN_MAX = 64 * 1024

FIRST_WRITE_S, WRITE_S = 30.0, 900.0

log = logging.getLogger(__name__)


class _Server(msgspec.Struct, frozen=True):
    key: KeyBytes
    address: AddressBytes
    flags: Uint8


class _Member(msgspec.Struct, frozen=True):
    key: KeyBytes
    address: AddressBytes


class _Content(msgspec.Struct, frozen=True):
    """namespace: of the network that these are of."""

    namespace: Annotated[str, msgspec.Meta(max_length=255)]
    servers: Annotated[tuple[_Server, ...], msgspec.Meta(max_length=REMEMBERED_MAX)] = ()
    members: Annotated[tuple[_Member, ...], msgspec.Meta(max_length=MEMBERS_MAX)] = ()


class KnownNodes:
    """path None: an ephemeral key, nothing is read or written."""

    def __init__(self, path: Path | None, namespace: str) -> None:
        self._path = path
        self._namespace = namespace
        self._written = b""

    def load(self) -> Remembered:
        """What the last run left; nothing where that makes no sense (which is logged), or is of another
        network. Blocks."""
        if self._path is None:
            return Remembered()
        try:
            content = msgspec.json.decode(read_own_file(self._path, FILE_LEN_MAX), type=_Content)
        except FileNotFoundError:
            return Remembered()
        except (OSError, msgspec.DecodeError, RecursionError) as error:
            log.warning("ignoring the known nodes in %s: %s", self._path, error)
            return Remembered()
        if content.namespace != self._namespace:
            return Remembered()
        return Remembered(
            tuple(
                Contact(each.key, each.address, each.flags) for each in content.servers if _makes_sense(each)
            ),
            tuple((each.key, each.address) for each in content.members if _makes_sense(each)),
        )

    def save(self, known: Remembered) -> None:
        """Where it is news; an empty memory overwrites nothing. Blocks."""
        if self._path is None or not (known.servers or known.members):
            return
        encoded = msgspec.json.encode(
            _Content(
                self._namespace,
                tuple(_Server(each.key, each.address, each.flags & 0xFF) for each in known.servers),
                tuple(_Member(*member) for member in known.members[:MEMBERS_MAX]),
            )
        )
        if encoded == self._written:
            return
        try:
            write_own_file(self._path, encoded)
            self._written = encoded
        except OSError as error:
            log.warning("cannot save the known nodes in %s: %s", self._path, error)

    async def keep(self, known: Callable[[], Remembered]) -> None:
        """Save now and then, until it is cancelled."""
        wait_s = FIRST_WRITE_S
        while True:
            await asyncio.sleep(wait_s)
            await asyncio.to_thread(self.save, known())
            wait_s = WRITE_S


def _makes_sense(node: _Server | _Member) -> bool:
    return is_public_key(node.key) and is_usable(node.address, allow_loopback=True)
