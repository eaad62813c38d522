"""One question to a UPnP gateway, in a process of its own: `python -m wh.net.mapping.igd_worker`, with the
question on standard input and the answer on standard output, both JSON.

miniupnpc reads whatever a gateway sends, for as long as it sends, into memory without bound. Here that ends
with the process, which whoever started it kills at a deadline, and which has no keys, little memory, and
nothing to lose: no capability, no uid 0, no program that could give it some; no file, no other process, no
socket but TCP to the port that the gateway named, as far as the kernel can keep it from them. Where it cannot
come to that it asks nothing.
"""

from __future__ import annotations

import ipaddress
import os
import resource
import sys
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from wh.errors import SystemSetupError
from wh.net.mapping.gateway_url import is_url_at
from wh.privileges.capabilities import NONE
from wh.privileges.drop import give_up
from wh.privileges.sandbox import confine_client
from wh.privileges.users import NOBODY
from wh.system import standard_streams

MEMORY_MAX = 64 << 20
"""Bytes on top of what the interpreter has."""
CPU_MAX_S = 5
HTTP_PORT = 80
QUESTION_LEN_MAX = 4096
DESCRIPTION = "WireHub"
PORTS_TRIED = 4
PORT_STEP = 7
PERMANENT = 0

CONFLICT = "ConflictInMappingEntry"  # UPnP error 718
ONLY_PERMANENT = "OnlyPermanentLeasesSupported"  # 725
"""miniupnpc tells errors as text only."""


class Question(msgspec.Struct):
    """location: URL of the gateway's description, at this gateway's address. lease_s: 0: without end."""

    action: Literal["look", "map", "unmap"]
    location: str
    gateway: str
    transport: Literal["udp", "tcp"] = "udp"
    internal_port: int = 0
    external_port: int = 0
    lease_s: int = 0


class Answer(msgspec.Struct):
    """trouble: what went wrong; then nothing else counts. lease_s: 0: without end."""

    external_address: str = ""
    external_port: int = 0
    lease_s: int = 0
    trouble: str = ""


def main() -> int:
    standard_streams.prepare()
    question = msgspec.json.decode(sys.stdin.buffer.read(QUESTION_LEN_MAX), type=Question)
    import miniupnpc  # type: ignore[import-not-found, unused-ignore]

    try:
        confine(urlsplit(question.location).port or HTTP_PORT)
        answer = ask(miniupnpc.UPnP(), question)
    except SystemSetupError as error:
        answer = Answer(trouble=f"is not asked: {error}")
    except Exception as error:  # all that miniupnpc raises is Exception
        answer = Answer(trouble=str(error)[:200] or type(error).__name__)
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def confine(port: int) -> None:
    """Nothing that a hostile answer makes of this process is worth having. port: of the gateway. Raises
    SystemSetupError."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_MAX, used + MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_MAX_S, CPU_MAX_S))
    shared = os.geteuid() != 0
    give_up(NONE, None if shared else NOBODY)
    if "seccomp" not in confine_client(port) and shared:
        raise SystemSetupError("this kernel cannot keep it from the daemon, whose user it is")


def ask(upnp: Any, question: Question) -> Answer:
    """upnp: a miniupnpc.UPnP. Raises what it raises."""
    control = upnp.selectigd(question.location)
    if not is_url_at(control, ipaddress.IPv4Address(question.gateway)):
        raise ValueError("it wants to be controlled somewhere else")
    transport = question.transport.upper()
    if question.action == "unmap":
        upnp.deleteportmapping(question.external_port, transport)
        return Answer()
    if question.action == "look":
        return Answer(upnp.externalipaddress())
    port, lease_s = add_mapping(upnp, question, transport)
    return Answer(upnp.externalipaddress(), port, lease_s)


def add_mapping(upnp: Any, question: Question, transport: str) -> tuple[int, int]:
    """External port and lease. AddAnyPortMapping of IGD 2 would choose the port, but miniupnpc asks it only
    for mappings that outlive us."""
    port, lease_s = question.external_port, question.lease_s
    for left in reversed(range(PORTS_TRIED + 1)):
        try:
            upnp.addportmapping(
                port, transport, upnp.lanaddr, question.internal_port, DESCRIPTION, "", lease_s
            )
            return port, lease_s
        except Exception as error:
            if str(error) == ONLY_PERMANENT and lease_s != PERMANENT:
                lease_s = PERMANENT
            elif str(error) == CONFLICT and left:
                port = port + PORT_STEP if port + PORT_STEP <= 0xFFFF else port - 1000
            else:
                raise
    raise RuntimeError(CONFLICT)


if __name__ == "__main__":
    sys.exit(main())
