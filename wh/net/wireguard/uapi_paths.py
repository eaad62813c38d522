"""Where `wg` looks for the socket of an interface (wireguard.com/xplatform)."""

from __future__ import annotations

from pathlib import Path

UAPI_DIRECTORY = Path("/var/run/wireguard")


def uapi_path(interface: str, directory: Path = UAPI_DIRECTORY) -> Path:
    return directory / f"{interface}.sock"
