"""Requests to change the network file, as changes of its text."""

from __future__ import annotations

import time

from wh.config import edits
from wh.config.network_file import Edit
from wh.helper.requests import AddAlias, ClaimAlias, FileEdit
from whcore.keys import decode_key


def change_of(request: FileEdit) -> Edit:
    """Raises ConfigError, InvalidKey for what the request says; the change raises ConfigError."""
    if isinstance(request, ClaimAlias):
        alias, claimant = decode_key(request.alias), decode_key(request.claimant)
        return lambda text: edits.claim_alias(text, alias, claimant)
    if isinstance(request, AddAlias):
        name, invited = edits.read_name(request.name), decode_key(request.alias)
        return lambda text: edits.add_alias(
            text, name, invited, expires=request.expires, now_unix=time.time()
        )
    key = decode_key(request.key)
    return lambda text: edits.remove_member(text, key)
