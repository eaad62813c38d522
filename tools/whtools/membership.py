"""What the commands about who comes and goes share: invitations as words."""

from __future__ import annotations

import os

from wh.errors import Code, InvitationError, SystemSetupError, UsageError
from wh.system import files
from wh.system.files import UnsafePlace
from wh.system.standard_streams import read_input
from wh.trust.invitation import Invitation, decode_untrusted
from whtools.znc.secret_words import hide

VARIABLE = "WH_INVITATION"
FILE_LEN_MAX = 64 * 1024


def read_invitation(word: str | None) -> tuple[str, Invitation]:
    """The text and what it says. word: the invitation itself, a file that holds it, `-` for standard input;
    None: from the environment, which loses it: no daemon shall inherit it. Raises UsageError,
    SystemSetupError, InvitationError."""
    text = _text_of(word)
    os.environ.pop(VARIABLE, None)
    try:
        invited = decode_untrusted(text)
    except InvitationError as error:
        if text is word and "/" in text:
            raise InvitationError(
                f"{word} is neither an invitation nor a file", code=error.code, hint=error.hint
            ) from None
        raise
    hide(text)
    return text, invited


def _text_of(word: str | None) -> str:
    if word is None:
        text = os.environ.get(VARIABLE)
        if not text:
            raise UsageError("no invitation is given", hint=f"as a word, in a file, by - or in {VARIABLE}")
        return text
    if word == "-":
        return read_input(FILE_LEN_MAX).decode("utf-8", "replace")
    try:
        return files.read_input(word, FILE_LEN_MAX).decode("ascii", "replace")
    except (PermissionError, UnsafePlace) as error:
        raise SystemSetupError(
            f"cannot read {word}: {error.strerror}", code=Code.INVITATION_MALFORMED
        ) from None
    except (OSError, ValueError):  # no such file, or nothing that could be one
        return word
