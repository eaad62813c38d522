"""Names of interfaces: the same for sockets, logs and the kernel."""

from __future__ import annotations

import re

INTERFACE_LEN_MAX = 15
"""IFNAMSIZ (linux/if.h) without its final zero."""

RULE = f"1 to {INTERFACE_LEN_MAX} letters, digits and any of _ . = + -, no hyphen in front"

_NAME = re.compile(r"[A-Za-z0-9_.=+][A-Za-z0-9_.=+-]*")
_TAKEN = frozenset((".", "..", "all", "default", "interfaces", "json", "light"))
"""By file systems, by the kernel's settings, and by words of `wh show`."""


def is_interface_name(name: str) -> bool:
    """Whether no kernel, `ip`, shell or command line trips over it."""
    return len(name) <= INTERFACE_LEN_MAX and _NAME.fullmatch(name) is not None and name not in _TAKEN
