"""What a machine gives a data plane, what is said of its lacks, and `wh version verbose`, which prints it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from private_namespaces import refusal

from wh.net.abilities import Abilities, missing_engine, missing_of_kernel
from whcore import aead

WH = str(Path(sys.executable).parent / "wh")
needs_namespaces = pytest.mark.skipif(bool(refusal()), reason=refusal() or "")


def version(*before: str, **environment: str) -> dict[str, Any]:
    """What `wh version verbose json` prints. before: what its command line begins with."""
    words = [*before, WH, "version", "verbose", "json"]
    answer = subprocess.run(words, env=os.environ | environment, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def missing(found: dict[str, Any]) -> dict[str, str]:
    return {each["what"]: each["fix"] for each in found["missing"]}


@needs_namespaces
def test_all_that_is_here_is_told() -> None:
    found = version()
    assert found["engine"].startswith(aead.engine())
    assert {"checksums", "TSO"} <= set(found["tun_offloads"])
    assert found["udp_offloads"] == ["GSO", "GRO"]
    assert found["kernel"].endswith(platform.release())
    assert found["python"] == f"CPython {platform.python_version()}"
    assert ("IPsec-MB" in missing(found)) == (bool(aead.obstacle()) and platform.machine() == "x86_64")


@pytest.mark.skipif("IPsec-MB" not in aead.engines(), reason="IPsec-MB is not here")
def test_a_slower_engine_than_could_be_had_is_told_with_its_cost() -> None:
    found = version(WH_AEAD="libsodium")
    assert found["engine"] == found["libsodium"]
    assert missing(found) == {"IPsec-MB": "unset WH_AEAD"}


def in_user_namespace(first: str) -> list[str]:
    """What a command line begins with that runs first as a shell's line."""
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", f'{first}; exec "$@"', "sh"]


@needs_namespaces
def test_a_machine_without_tun_is_told() -> None:
    found = version(*in_user_namespace("mount -t tmpfs none /dev/net"))
    assert "modprobe tun" in missing(found)["/dev/net/tun"]


@needs_namespaces
def test_a_machine_that_allows_no_namespaces_is_told_and_its_offloads_are_not_known() -> None:
    found = version(*in_user_namespace("echo 0 >/proc/sys/user/max_net_namespaces"))
    assert found["tun_offloads"] is None
    assert "max_net_namespaces" in missing(found)["private network namespaces"]


def test_there_is_something_to_do_about_each_obstacle_and_none_where_no_engine_is_faster() -> None:
    for obstacle in ("not built", "no library", "other version", "processor", "wrong results", "unwanted"):
        (told,) = missing_engine(obstacle, "x86_64")
        assert told.fix and told.cost
        assert list(missing_engine(obstacle, "aarch64")) == []
    assert list(missing_engine("", "x86_64")) == []


def test_an_old_kernel_lacks_all_by_name() -> None:
    old = Abilities(
        "libsodium 1.0.18", "libsodium 1.0.18", [], [], "Linux 4", "x86_64", 0, False, "CPython 3.11"
    )
    names = [each.what for each in missing_of_kernel(old)]
    assert names[-5:] == ["TSO", "USO", "GSO", "GRO", "Landlock and seccomp"]


def test_the_command_prints_a_line_each() -> None:
    text = subprocess.run([WH, "version", "--verbose"], capture_output=True, text=True, check=True).stdout
    for word in (
        "wirehub",
        "encryption: ",
        "interface: ",
        "UDP: ",
        "kernel: Linux",
        "Python: CPython",
        "missing",
    ):
        assert word in text
    short = subprocess.run([WH, "version", "json"], capture_output=True, check=True).stdout
    assert list(json.loads(short)) == ["version"]
