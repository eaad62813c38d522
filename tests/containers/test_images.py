"""What is in the images, and what is not."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter

import pytest

from container_engine import FULL, MINIMAL, ROOT, SANDBOX, Engine

SIZE_MAX_MB = 120
RUNTIME = (  # Python, and what its standard library and the core are linked with
    r"python3[\d.]*(-minimal)?|libpython3[\d.]*-(stdlib|minimal)|libexpat1|libffi8|libgssapi-krb5-2|libipsec-mb\d"
    r"|libk5crypto3|libkeyutils1|libkrb5-3|libkrb5support0|libncursesw6|libnsl2|libreadline8|readline-common|libsodium23"
    r"|libsqlite3-0|libssl3|libtirpc-common|libtirpc3|media-types|netbase|tzdata|ca-certificates|openssl"
)
TOOLS = (  # of the sandbox, and what they are linked with
    r"bash-completion|curl|iperf3|iproute2|iputils-ping|less|libcap2-bin|nano|procps|tcpdump|libatomic1|libbpf1|libbrotli1"
    r"|libbsd0|libcap2|libcom-err2|libcurl4|libdbus-1-3|libelf1|libiperf0|libldap-?2.*|libmnl0|libnghttp[23].*"
    r"|libngtcp2.*|libpcap0.8|libproc2-0|libpsl5|librtmp1|libsasl2-2|libsasl2-modules-db|libsctp1|libssh2-1|libxtables12"
)
PINNED = re.findall(r"^([\w-]+)==", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
LIBRARIES = "|".join(  # of Python: ours, and those of others by their own names and their modules'
    ("wh|whcore|whtools|wirehub|_cffi_backend|markdown_it", *(name.replace("-", "_") for name in PINNED))
)
SITE = r"/opt/wirehub/lib/python3\.\d+/site-packages"
FILES = "|".join(
    (
        rf"{SITE}/(wh|whcore|whtools)/.+\.(py|pyc|so)|{SITE}/(wh|whcore|whtools)/py\.typed",
        rf"{SITE}/({LIBRARIES})(-[\w.]+\.dist-info)?/.+|{SITE}/({LIBRARIES})\.[\w-]+\.so",
        r"/opt/wirehub/(pyvenv\.cfg|lib64|bin/(wh|0nc|wh-wireguard|python3?|python3\.\d+))",
        r"/usr/local/bin/(wh|0nc|wh-wireguard|wh-node)",
        r"/usr/(lib|share)/python3[\d.]*/.+\.pyc|/var/lib/python/.+|/etc/python3/debian_config|/etc/inputrc",
        r"/var/lib/dpkg/.+|/var/lib/apt/extended_states|/var/cache/apt/archives/lock|/etc/(g?shadow|sub[gu]id|passwd|group)-",
    )
)
MORE_FILES = "|".join(
    (
        r"/usr/local/bin/(wh-sandbox-spawn|wh-sandbox-test)|/etc/wirehub/shell-start",
        r"/usr/share/bash-completion/completions/(wh|0nc)",
        r"(/etc/alternatives|/usr/bin|/usr/share/man/man1)/(editor|pico)(\.1\.gz)?",  # nano's
        r"/etc/apparmor\.d/local/usr\.bin\.tcpdump|/etc/default/iperf3|/etc/rc[S\d]\.d/S01procps|/run/adduser",
    )
)
LIST_PACKAGES = r"dpkg-query --show --showformat '${Package}\n'"
LIST_FILES = "find / -xdev ! -type d"
LIST_OWNED = "cat /var/lib/dpkg/info/*.list"
MERGED = re.compile(r"^/(bin|sbin|lib|lib32|lib64)/")


def listed(engine: Engine, image: str, script: str) -> set[str]:
    """Lines, with directories where they are since they are all below /usr."""
    return {
        MERGED.sub(r"/usr/\1/", line)
        for line in engine.run(image, [], "sh", "-c", script).stdout.splitlines()
    }


@pytest.fixture(scope="module")
def base() -> str:
    """The image that ours are built on."""
    named = os.environ.get("BASE")
    script = ROOT / "sandbox/container/base"
    return named or subprocess.run([script], capture_output=True, text=True, check=True).stdout.strip()


def size_mb(image: str) -> float:
    told = subprocess.run(["podman", "image", "inspect", image], capture_output=True, text=True, check=True)
    return float(json.loads(told.stdout)[0]["Size"]) / 1e6


def test_the_minimal_image_is_small(engine: Engine) -> None:
    """Over its base, which is its bottom layer."""
    history = subprocess.run(
        ["podman", "history", "--format", "json", MINIMAL],
        capture_output=True,
        text=True,
        check=True,
    )
    layers = [layer["size"] for layer in json.loads(history.stdout)]
    print(f"{size_mb(MINIMAL):.0f} MB in all; layers from the top: {layers}")
    assert sum(layers[:-1]) / 1e6 < SIZE_MAX_MB


@pytest.mark.parametrize(
    ("image", "packages", "files"),
    [(MINIMAL, RUNTIME, FILES), (SANDBOX, f"{RUNTIME}|{TOOLS}", f"{FILES}|{MORE_FILES}")],
    ids=["minimal", "sandbox"],
)
def test_images_contain_what_runs_and_nothing_else(
    engine: Engine, base: str, image: str, packages: str, files: str
) -> None:
    """No compiler, no pip, no sources but Python's, no key, no history: nothing that is not listed here."""
    more = listed(engine, image, LIST_PACKAGES) - listed(engine, base, LIST_PACKAGES)
    allowed = re.compile(packages)
    assert [name for name in sorted(more) if not allowed.fullmatch(name.replace("t64", ""))] == []
    ours = (
        listed(engine, image, LIST_FILES)
        - listed(engine, base, LIST_FILES)
        - listed(engine, image, LIST_OWNED)
    )
    print(f"{image}: {len(more)} packages over its base: {' '.join(sorted(more))}")
    tops = Counter(
        re.sub(rf"({SITE}/[^/]+|/var/lib/dpkg|/usr/\w+/python[\d.]+)/.*", r"\1/", path) for path in ours
    )
    print("files of no package:", *(f"{count:5} {top}" for top, count in sorted(tops.items())), sep="\n")
    assert [path for path in sorted(ours) if not re.fullmatch(files, path)] == []


def test_the_minimal_image_has_a_shell(engine: Engine) -> None:
    shell = engine.run(MINIMAL, FULL, "/bin/sh", text="wh version; 0nc --version; id -u\n").stdout
    assert shell.startswith("wirehub 2") and shell.splitlines()[-1] == "0"


def test_the_sandbox_has_its_tools_and_completes(engine: Engine) -> None:
    tools = "ping ip ss tcpdump iperf3 curl ps less nano wh-sandbox-spawn wh-sandbox-test"
    script = f"for name in {tools}; do command -v $name >/dev/null || echo $name; done"
    assert engine.run(SANDBOX, [], "sh", "-c", script).stdout == ""
    complete = (
        "_completion_loader wh; COMP_WORDS=(wh netch); COMP_CWORD=1; _wh; echo ${COMPREPLY[*]};"
        "_completion_loader 0nc; complete -p 0nc"
    )
    told = engine.run(SANDBOX, [], "bash", "-ic", complete).stdout
    assert "netcheck" in told and "--bootstrap" in told
