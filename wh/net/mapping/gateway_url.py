"""Whether a URL that a gateway gave leads to that gateway itself."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_url_at(url: str, address: ipaddress.IPv4Address) -> bool:
    """Whether it is http, and its host is this address, as numbers: nobody else is to be asked."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme == "http"
            and parts.hostname is not None
            and ipaddress.IPv4Address(parts.hostname) == address
            and parts.username is None
            and parts.port != 0
            and url.isprintable()
            and " " not in url
        )
    except ValueError:
        return False
