"""`wh invite`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import click
import msgspec

from wh.config.model import RESOLVED_HOSTNAME, IPNetwork
from wh.errors import IpcError
from wh.ipc import client, schema
from wh.trust.degrees import HostFacts, Source, why_no_name, why_no_subnet
from wh.trust.invitation import decode_untrusted
from whtools.application import command
from whtools.interfaces import the_only_one
from whtools.network_file import warn_of_names
from whtools.outcome import print_warning
from whtools.parameters import Duration, Interface
from whtools.terminal import printable


@command("invite")
@click.argument("name", metavar="NAME")
@click.option("--interface", type=Interface(), metavar="INTERFACE", help="Where more than one is up.")
@click.option("--expires", type=Duration(), metavar="TIME", help="How long it is good, such as 30m, 1h, 7d.")
@click.option("--qr", is_flag=True, help="Show it as a QR code too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def invite(name: str, interface: str | None, expires: int | None, qr: bool, as_json: bool) -> None:
    """Invite a member yet to come: keep NAME and an address for it, and print the invitation.

    The invitation is a secret: the first who uses it (wh join) is in. It is printed alone on standard output;
    what it is for goes to standard error. wh revoke NAME takes it back.
    """
    arguments = schema.InviteArguments(name, expires)
    inviter = the_only_one(interface)
    invited = client.call(inviter, schema.INVITE, arguments)
    with taken_back_where_lost(inviter, invited):
        click.echo(msgspec.json.encode(invited).decode() if as_json else printable(invited.invitation))
    if not as_json:
        print(f"wh: {describe(invited)}", file=sys.stderr)
    warn_of_names([] if RESOLVED_HOSTNAME.fullmatch(name) else [name])
    for warning, hint in doubts(name, decode_untrusted(invited.invitation).subnet):
        print_warning(warning, hint=hint)
    if qr:
        from whtools.qr import as_text

        click.echo(as_text(invited.invitation), err=as_json)


@contextlib.contextmanager
def taken_back_where_lost(interface: str, invited: schema.Invited) -> Iterator[None]:
    """Nobody has an invitation that was not printed, and its name shall not be kept for it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(IpcError):
            client.call(interface, schema.REVOKE, schema.PeerArguments(invited.alias))
        raise


def doubts(name: str, subnet: IPNetwork | None) -> Iterator[tuple[str, str]]:
    """What no newcomer will take from us, whatever its machine has; and what to do."""
    if subnet is not None and (reason := why_no_subnet(Source.INVITATION, subnet, HostFacts())):
        yield f"the subnet {subnet} {reason}", f"the newcomer must say it: wh join ... subnet {subnet}"
    if reason := why_no_name(Source.AUTHED, name, HostFacts()):
        yield f"the name {name} {reason}: the newcomer will go without", "invite it by another name"


def describe(invited: schema.Invited) -> str:
    facts = [f"invitation for {printable(invited.name)}"]
    if invited.address:
        facts.append(f"address {printable(invited.address)}")
    if invited.expires_unix is not None:
        facts.append(time.strftime("until %Y-%m-%d %H:%M:%S %Z", time.localtime(invited.expires_unix)))
    facts.append("the first who uses it is in")
    return ", ".join(facts)
