"""What the commands about who comes and goes share: invitations as words."""

from __future__ import annotations

import os

from wh.errors import Code, InvitationError, SystemSetupError, UsageError
from wh.system.standard_streams import read_input
from wh.trust.invitation import Invitation, decode_untrusted
from wh.trust.pasting import PASTED_LEN_MAX, word_of_untrusted
from whtools.znc.secret_words import hide, read_file_or_word

VARIABLE = "WH_INVITATION"


def read_invitation(word: str | None) -> tuple[str, Invitation]:
    """The text and what it says. word: the invitation itself, a file that holds it, `-` for standard input;
    None: from the environment, which loses it: no daemon shall inherit it. Raises UsageError,
    SystemSetupError, InvitationError."""
    pasted = _text_of(word)
    os.environ.pop(VARIABLE, None)
    try:
        text = word_of_untrusted(pasted)
        invited = decode_untrusted(text)
    except InvitationError as error:
        if pasted is word and "/" in pasted:
            raise InvitationError(
                f"{word} is neither an invitation nor a file", code=error.code, hint=error.hint
            ) from None
        raise
    hide(pasted)
    return text, invited


def _text_of(word: str | None) -> str:
    if word is None:
        text = os.environ.get(VARIABLE)
        if not text:
            raise UsageError("no invitation is given", hint=f"as a word, in a file, by - or in {VARIABLE}")
        return text
    if word == "-":
        return read_input(PASTED_LEN_MAX).decode("utf-8", "replace")
    try:
        return read_file_or_word(word)
    except OSError as error:
        raise SystemSetupError(
            f"cannot read {word}: {error.strerror}", code=Code.INVITATION_MALFORMED
        ) from None
