"""Which aliases were claimed here, and by whom: so that a second claimant hears that the alias is used.

Written before the network file is, which alone decides: an alias that still stands there is open, whatever
the log says.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import msgspec

from wh.daemon.persistence.state import write_own_file
from wh.engine.events import Key
from wh.errors import Code, SystemSetupError
from wh.system.files import read_own_file
from whcore.errors import InvalidKey
from whcore.keys import decode_key, encode_key

CLAIMS_MAX = 1024
"""The oldest are forgotten: their aliases are then unknown instead of used."""

LOG_LEN_MAX = 256 * CLAIMS_MAX

KeyText = Annotated[str, msgspec.Meta(min_length=43, max_length=43)]

log = logging.getLogger(__name__)


Words = Annotated[tuple[Annotated[str, msgspec.Meta(max_length=16)], ...], msgspec.Meta(max_length=8)]


class Claim(msgspec.Struct, frozen=True):
    """words: the check words that the claimant's end showed."""

    alias: KeyText
    claimant: KeyText
    words: Words = ()


class ClaimLog:
    """path None: an ephemeral node, which remembers for itself only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._claims: dict[Key, tuple[Key, tuple[str, ...]]] = {}  # alias -> claimant, words; oldest first

    def load(self) -> None:
        """What earlier runs left. A log that makes no sense is ignored, and that logged."""
        if self._path is None:
            return
        try:
            claims = msgspec.json.decode(read_own_file(self._path, LOG_LEN_MAX), type=list[Claim])
            self._claims = {
                decode_key(each.alias): (decode_key(each.claimant), each.words) for each in claims
            }
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError, InvalidKey) as error:
            log.warning("ignoring the claims in %s: %s", self._path, error)

    def items(self) -> tuple[tuple[Key, Key], ...]:
        """Alias and claimant, oldest first."""
        return tuple((alias, claimant) for alias, (claimant, _) in self._claims.items())

    def words_of(self, claimant: Key) -> tuple[str, ...]:
        """The check words of the alias that a key claimed last."""
        return next((words for key, words in reversed(self._claims.values()) if key == claimant), ())

    def claim_of(self, alias: Key) -> tuple[Key, tuple[str, ...]] | None:
        """Claimant and check words."""
        return self._claims.get(alias)

    def restore(self, alias: Key, claim: tuple[Key, tuple[str, ...]] | None) -> None:
        """As it was before an add() that came to nothing. Raises as add() does."""
        if claim is not None:
            self.add(alias, *claim)
        elif self._claims.pop(alias, None) is not None:
            self._write()

    def add(self, alias: Key, claimant: Key, words: tuple[str, ...]) -> None:
        """On disk when this returns. Raises SystemSetupError. Blocks."""
        self._claims.pop(alias, None)
        self._claims[alias] = (claimant, words)
        while len(self._claims) > CLAIMS_MAX:
            del self._claims[next(iter(self._claims))]
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        claims = [
            Claim(encode_key(alias), encode_key(claimant), words)
            for alias, (claimant, words) in self._claims.items()
        ]
        try:
            write_own_file(self._path, msgspec.json.encode(claims))
        except OSError as error:
            raise SystemSetupError(
                f"cannot write {self._path}: {error.strerror}", code=Code.NETWORK_SETUP
            ) from error
