"""Programs of Debian packages that are not installed: fetched by apt-get, and unpacked aside."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from labnet import LabError

FETCH_TIMEOUT_S = 120.0


def unpacked(directory: Path, *packages: str) -> Path:
    """The root below which the files of all these are: a directory in that one. Raises LabError where they
    cannot be had; who wants them is to be skipped then."""
    if shutil.which("apt-get") is None:
        raise LabError("there is no apt-get")
    root = directory / "root"
    root.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as fetched:
        try:
            subprocess.run(
                ["apt-get", "download", "-qq", *packages],
                cwd=fetched,
                check=True,
                capture_output=True,
                timeout=FETCH_TIMEOUT_S,
            )
            for package in sorted(Path(fetched).glob("*.deb")):
                subprocess.run(["dpkg-deb", "-x", package, root], check=True, capture_output=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise LabError(f"cannot have {', '.join(packages)}: {error}") from error
    return root
