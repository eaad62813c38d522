"""What an invitation, and the place that its sender gave, would do to this host: judged, and shown, before
anything is made of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import msgspec

from wh.config.model import IPNetwork
from wh.errors import Code, InvitationError
from wh.ipc.schema import Authenticated
from wh.trust.degrees import HostFacts, Source, why_no_name, why_no_subnet
from wh.trust.invitation import Invitation
from whcore.keys import encode_key
from whtools.terminal import printable


def check_subnet(source: Source, subnet: IPNetwork, host: HostFacts, said: IPNetwork | None) -> None:
    """said: the subnet that a person of this host gave on the command line, who may say any. Raises
    InvitationError."""
    if said is not None and said != subnet:
        raise InvitationError(
            f"the network has the subnet {subnet}, not {said}",
            code=Code.INVITATION_EXCESSIVE,
            hint="ask who invited, by another way, which is right",
        )
    if said is None and (reason := why_no_subnet(source, subnet, host)) is not None:
        raise InvitationError(
            f"the subnet {subnet} {reason}",
            code=Code.INVITATION_EXCESSIVE,
            hint=f"if it is really wanted here, say so: subnet {subnet}",
        )


def judge_place(
    invited: Invitation, place: Authenticated, host: HostFacts, said: IPNetwork | None
) -> tuple[Authenticated, list[str]]:
    """The place without the names that this host does not take from others, and a warning for each. host:
    with facts about names_of(place). Raises InvitationError where the subnet is another than was invited to,
    or none that this host takes."""
    subnet = _subnet_of(place)
    if invited.subnet is not None and subnet != invited.subnet:
        raise InvitationError(
            f"the invitation is for the subnet {invited.subnet}, but the node that invited says {subnet}",
            code=Code.INVITATION_FAILED,
            hint="ask for a new invitation",
        )
    check_subnet(Source.AUTHED, subnet, host, said)
    warnings = []
    taken = {}
    for field in ("name", "server_name"):
        name = getattr(place, field)
        reason = why_no_name(Source.AUTHED, name, host) if name else None
        taken[field] = name if reason is None else ""
        if reason is not None:
            warnings.append(f"the name {printable(name)} {reason}: it is not taken from others")
    return msgspec.structs.replace(place, **taken), warnings


def names_of(place: Authenticated) -> list[str]:
    return [name for name in (place.name, place.server_name) if name]


def _subnet_of(place: Authenticated) -> IPNetwork:
    try:
        return ipaddress.ip_network(place.subnet or "")
    except ValueError:
        raise InvitationError(
            "the node that invited gave a place that cannot be: it has no subnet", code=Code.INVITATION_FAILED
        ) from None


def describe_invitation(invited: Invitation) -> str:
    """For the person, before anything else."""
    facts = [f"invitation to network {invited.network_name}" if invited.network_name else "invitation"]
    if invited.subnet is not None:
        facts.append(f"subnet {invited.subnet}")
    facts.append(f"from {encode_key(invited.server_key)}")
    return printable(", ".join(facts))


def describe_claims(place: Authenticated) -> Iterator[str]:
    """What the host will have, before it has: the subnet, and the names with their addresses."""
    yield printable(f"subnet {place.subnet}")
    for name, addresses in ((place.name, place.addresses), (place.server_name, place.server_addresses)):
        if name and addresses:
            yield printable(f"name {name}: {addresses[0]}")


def describe_place(place: Authenticated) -> Iterator[str]:
    """For two people who compare the words."""
    who = printable(place.name or "a member")
    addresses = ", ".join(map(printable, place.addresses))
    yield f"you are {who}{f', {addresses}' if addresses else ''}"
    server = printable(place.server_name or place.public_key)
    if place.check_words:
        yield f"check words: {' '.join(map(printable, place.check_words))} ({server} shows the same)"
    else:
        yield "no check words: this key had its place before (for some, revoke it there and invite anew)"
