"""The one invitation in whatever was pasted: a line of a chat, a mail that wrapped and quoted it, a file.

What cannot be seen is dropped, and all that is no letter or digit separates. Pieces that follow each other
are put together until the checksum holds, so nothing else in the text is ever taken for a part of the word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from wh.errors import Code, InvitationError
from wh.trust.invitation import MAX_TEXT_LEN, ORIGINAL_LEN, is_whole

PASTED_LEN_MAX = 64 * 1024
"""Characters. An invitation has some hundred."""

_STARTS_MAX = 16
"""Pieces that begin as an invitation does, and are tried."""

_ORIGINAL = re.compile(rf"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{{{ORIGINAL_LEN}}}(?![A-Za-z0-9_-])")
_START = re.compile(r"wh[0-9]")  # also of another version
_PIECE = re.compile(r"[a-z0-9]+")


def word_of_untrusted(text: str) -> str:
    """The word; or, where none is whole, the longest that begins as one does, or else the text: reading that
    tells what is wrong. Raises InvitationError where there are several."""
    visible = "".join(char for char in text[:PASTED_LEN_MAX] if char.isprintable() or char.isspace())
    pieces = _PIECE.findall(visible.lower())
    starts = [at for at, piece in enumerate(pieces) if _START.match(piece)]
    whole = {word for at in starts[:_STARTS_MAX] if (word := _grow(pieces[at:])) is not None}
    if len(whole) > 1:
        raise InvitationError(
            f"there are {len(whole)} invitations in this text",
            code=Code.INVITATION_MALFORMED,
            hint="paste one of them",
        )
    found = [*whole, *_ORIGINAL.findall(visible), *_best(pieces[at] for at in starts)]
    return found[0] if found else visible.strip()


def is_found(text: str) -> bool:
    """Whether there is a whole one in the text, so that nothing behind it is needed."""
    return is_whole(word_of_untrusted(text)) or _ORIGINAL.search(text) is not None


def _grow(pieces: list[str]) -> str | None:
    word = ""
    for piece in pieces:
        word += piece
        if len(word) > MAX_TEXT_LEN:
            return None
        if is_whole(word):
            return word
    return None


def _best(words: Iterator[str]) -> list[str]:
    return sorted(words, key=len, reverse=True)[:1]
