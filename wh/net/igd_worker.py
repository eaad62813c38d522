"""One question to a UPnP gateway, in a process of its own: `python -m wh.net.igd_worker`, with the question
on standard input and the answer on standard output, both JSON.

miniupnpc reads whatever a gateway sends, for as long as it sends, into memory without bound. Here that ends
with the process, which whoever started it kills at a deadline, and which has no keys, no privileges and
little memory.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import resource
import sys
from typing import Any, Literal

import msgspec

from wh.net.gateway_url import is_url_at

MEMORY_MAX = 64 << 20
"""Bytes on top of what the interpreter has."""
CPU_MAX_S = 5
NOBODY = 65534
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
    question = msgspec.json.decode(sys.stdin.buffer.read(QUESTION_LEN_MAX), type=Question)
    import miniupnpc  # type: ignore[import-not-found, unused-ignore]

    confine()
    try:
        answer = ask(miniupnpc.UPnP(), question)
    except Exception as error:  # all that miniupnpc raises is Exception
        answer = Answer(trouble=str(error)[:200] or type(error).__name__)
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def confine() -> None:
    """Nothing that a hostile answer makes of this process is worth having."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_MAX, used + MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_MAX_S, CPU_MAX_S))
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # a user namespace may know no other user
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)


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
